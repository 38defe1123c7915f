"""A preset with the user's settings in place of its values, as configurations. Light to import."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.models.config import ModelConfig
from pipelines.models.registry import model_class, model_config
from pipelines.options import drop_unmet
from pipelines.train.config import TrainConfig
from pipelines.train.memory import check_memory
from pipelines.train.presets import PRESET_NAMES, preset

SCHEDULE = {field.name for field in dataclasses.fields(TrainConfig)}


def configure(model: str, name: str, settings: dict[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """Return a model's preset with the settings in place of its values.

    Values of the preset that have no effect beside the settings are left out: `--likelihood digit` alone
    removes the repeat bias of the preset `small`, which needs the item softmax. `--minutes` bounds the steps
    of the preset and does not replace them.

    Raises:
        UserError: the model or preset is unknown; the configurations refuse a value; the model is too large
            for this machine.
    """
    values, _ = _effective(model, name, settings)
    config = model_config(model, {key: value for key, value in values.items() if key not in SCHEDULE})
    train = TrainConfig(**{key: value for key, value in values.items() if key in SCHEDULE})
    check_memory(config, train)
    return config, train


def left_out(model: str, name: str, settings: dict[str, Any]) -> list[str]:
    """Return the names of the preset's values that have no effect beside the settings; see `configure`."""
    return _effective(model, name, settings)[1]


def _effective(model: str, name: str, settings: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    values = preset(model, name) | settings
    return drop_unmet(model_class(model), values, keep=settings)


def preset_values(model: str) -> dict[str, dict[str, Any]]:
    """Return the values of all fields of a model and its training, by preset and field.

    Raises:
        UserError: the model is unknown.
    """
    configs = {name: configure(model, name, {}) for name in PRESET_NAMES}
    return {
        name: dataclasses.asdict(config) | dataclasses.asdict(train)
        for name, (config, train) in configs.items()
    }
