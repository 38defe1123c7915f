"""A preset with what was asked for in its place, as configurations. Light to import."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.models.config import ModelConfig
from pipelines.models.configs import model_config
from pipelines.train.config import TrainConfig
from pipelines.train.memory import check_memory
from pipelines.train.presets import preset as preset_values


def configure(model: str, preset: str, settings: dict[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """A model's preset with what was typed in its place; --steps or --minutes alone replaces the preset's whole budget.

    Raises:
        UserError: an unknown model or preset, values that the configurations refuse, or a model that is too large for this machine.
    """
    values = preset_values(model, preset)
    if {"steps", "minutes"} & settings.keys():
        values = {name: value for name, value in values.items() if name not in ("steps", "minutes")}
    values |= settings
    schedule = {field.name for field in dataclasses.fields(TrainConfig)}
    sizes = model_config(model, {name: value for name, value in values.items() if name not in schedule})
    train = TrainConfig(**{name: value for name, value in values.items() if name in schedule})
    check_memory(sizes, train)
    return sizes, train
