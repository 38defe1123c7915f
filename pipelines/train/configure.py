"""A preset with what was asked for in its place, as configurations. Light to import."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.models.config import ModelConfig
from pipelines.models.registry import model_config
from pipelines.train.config import TrainConfig
from pipelines.train.memory import check_memory
from pipelines.train.presets import PRESET_NAMES, preset

SCHEDULE = {field.name for field in dataclasses.fields(TrainConfig)}


def configure(model: str, name: str, settings: dict[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """A model's preset with what was typed in its place; --minutes bounds the preset's steps and does not replace them.

    Raises:
        UserError: an unknown model or preset, values that the configurations refuse, or a model that is too large for this machine.
    """
    values = preset(model, name) | settings
    model_settings = model_config(
        model, {name: value for name, value in values.items() if name not in SCHEDULE}
    )
    train = TrainConfig(**{name: value for name, value in values.items() if name in SCHEDULE})
    check_memory(model_settings, train)
    return model_settings, train


def preset_values(model: str) -> dict[str, dict[str, Any]]:
    """Preset → field → value, of all fields that the model and its training have.

    Raises:
        UserError: an unknown model.
    """
    configured = {name: configure(model, name, {}) for name in PRESET_NAMES}
    return {
        name: dataclasses.asdict(model_settings) | dataclasses.asdict(train)
        for name, (model_settings, train) in configured.items()
    }
