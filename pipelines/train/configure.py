"""A preset with the user's settings in place of its values, as configurations. Light to import."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pipelines.models.config import ModelConfig
from pipelines.models.registry import model_class, model_config
from pipelines.options import drop_unmet
from pipelines.train.config import TrainConfig, check_read, unread_options
from pipelines.train.memory import check_memory
from pipelines.train.presets import preset, preset_names

LARGE_CATALOGUE = 100_000  # largest number of items that training compares a target with, without a choice
NEGATIVES = 1024  # negatives for larger ones
CODES = 256  # per digit, as in the paper (section 4.1)
MOST_CODES = 4096  # of those chosen by the number of items
SCHEDULE = {field.name for field in dataclasses.fields(TrainConfig)}


def configure(
    model: str, name: str, settings: dict[str, Any], file: dict[str, Any] | None = None
) -> tuple[ModelConfig, TrainConfig]:
    """Return a model's preset with the settings in place of its values.

    Values of the preset that have no effect beside the settings are left out: `--likelihood digit` alone
    removes the repeat bias of the preset `small`, which needs the item softmax. `--minutes` bounds the steps
    of the preset and does not replace them.

    Args:
        model: name of the model.
        name: name of the preset.
        settings: values by field, from the command line.
        file: values by field from a configuration file, in place of the preset's and below the settings; None
            for no file.

    Raises:
        UserError: the model or preset is unknown; the configurations refuse a value; the model is too large
            for this machine.
    """
    check_read(model_class(model), {**(file or {}), **settings})
    values, _ = effective_values(model, name, settings, file or {})
    config = model_config(model, {key: value for key, value in values.items() if key not in SCHEDULE})
    train = TrainConfig(**{key: value for key, value in values.items() if key in SCHEDULE})
    check_memory(config, train)
    return config, train


def negatives_for(config: ModelConfig, items: int) -> int | None:
    """Return the number of negatives that a catalogue of N items needs; None if a full softmax will do.

    A softmax over more than `LARGE_CATALOGUE` items takes nearly all multiplications of a step
    (`softmax_share`).

    Args:
        config: of the model, without a choice of the user's.
        items: N.
    """
    return NEGATIVES if config.compares_with_all and items > LARGE_CATALOGUE else None


def codes_for(config: ModelConfig, levels: int, items: int) -> int:
    """Return the number of codes V per digit that suits a model and a catalogue of N items.

    It is the paper's 256, or more for an item softmax over semantic IDs alone: then it is the largest power
    of two with which H · V embeddings of codes are at most half as many as the items (docs/codes.md).

    Args:
        config: of the model.
        levels: m; H = m + 1.
        items: N.
    """
    if not config.scores_codes_alone:
        return CODES
    most = items // (2 * (levels + 1))
    return min(MOST_CODES, max(CODES, 1 << max(0, most.bit_length() - 1)))


def softmax_share(config: ModelConfig, items: int) -> float:
    """Return the share that a softmax over N items has in the multiplications of a training step: D for each
    item against one for each weight of the blocks.
    """
    softmax = items * config.width
    return softmax / (softmax + config.least_parameters())


def left_out(
    model: str, name: str, settings: dict[str, Any], file: dict[str, Any] | None = None
) -> list[str]:
    """Return the names of the values of preset and file that have no effect beside the settings; see
    `configure`. Values that the preset holds for an option of the user's, such as --dense, do not count.
    """
    conditional = effective_values(model, name, {}, {})[1]
    return [key for key in effective_values(model, name, settings, file or {})[1] if key not in conditional]


def effective_values(
    model: str, name: str, settings: dict[str, Any], file: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of preset, file and settings that have an effect, and the names of those left out."""
    values = preset(model, name) | file | settings
    # Without the command line, a value of the file that has no effect is refused.
    return drop_unmet(model_class(model), values, keep=settings or file)


def preset_values(model: str, names: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the values of all options that a model and its training read, by preset and field.

    Args:
        model: name of the model.
        names: names of presets; None for all of the model.

    Raises:
        UserError: the model is unknown.
    """
    configs = {name: configure(model, name, {}) for name in names or preset_names(model)}
    unread = unread_options(model_class(model))
    return {
        name: {
            field: value
            for field, value in (dataclasses.asdict(config) | dataclasses.asdict(train)).items()
            if field not in unread
        }
        for name, (config, train) in configs.items()
    }
