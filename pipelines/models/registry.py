"""All models by name. Light to import: the command line makes options of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pipelines import shapes
from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.models.item_models.config import (
    BERT4RecConfig,
    CaDiRecConfig,
    DreamRecConfig,
    MaskGRItemsConfig,
    SASRecConfig,
)
from pipelines.models.sid_models.config import (
    DiffGRMConfig,
    LIGERConfig,
    MaskGRConfig,
    RPGConfig,
    TIGERConfig,
)

MODELS: dict[str, type[ModelConfig]] = {
    config.name: config
    for config in (
        *(MaskGRConfig, SASRecConfig, BERT4RecConfig, MaskGRItemsConfig, TIGERConfig, LIGERConfig),
        *(DreamRecConfig, CaDiRecConfig, RPGConfig, DiffGRMConfig),
    )
}


def model_config(name: str, settings: dict[str, Any]) -> ModelConfig:
    """The configuration of the model of that name.

    Raises:
        UserError: there is no model of that name, a setting is another model's, or a value is of another type or refused.
    """
    if name not in MODELS:
        raise UserError(f"--model {name!r} is unknown; choose {', '.join(MODELS)}.")
    read = {f.name for f in fields(MODELS[name])}
    for setting in settings:
        if setting not in read:
            others = ", ".join(
                other for other, config in MODELS.items() if setting in {f.name for f in fields(config)}
            )
            raise UserError(
                f"--{setting.replace('_', '-')} means nothing to --model {name}; it goes with {others}. Leave it out."
            )
    try:
        shapes.fit(settings, MODELS[name])
    except shapes.Misfit as error:
        raise UserError(f"--model {name}: {error}.") from None
    return MODELS[name](**settings)
