"""A preset with what was asked for in its place, as configurations. Light to import."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.models.config import ModelConfig
from pipelines.models.configs import model_config
from pipelines.train.config import TrainConfig
from pipelines.train.presets import preset as preset_values


def configure(model: str, preset: str, settings: dict[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """A model's preset with what was typed in its place; --minutes bounds the preset's steps and does not replace them.

    Raises:
        UserError: an unknown model or preset, or values that the configurations refuse.
    """
    values = preset_values(model, preset) | settings
    schedule = {field.name for field in dataclasses.fields(TrainConfig)}
    return (
        model_config(model, {name: value for name, value in values.items() if name not in schedule}),
        TrainConfig(**{name: value for name, value in values.items() if name in schedule}),
    )
