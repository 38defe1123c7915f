"""The models by name. Light to import: the command line makes options of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pipelines import __version__, typed_json
from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.models.item_models.config import (
    BERT4RecConfig,
    BSARecConfig,
    CaDiRecConfig,
    CooccurrenceConfig,
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
from pipelines.options import flag_named, has_no_effect

MODELS: dict[str, type[ModelConfig]] = {
    config.name: config
    for config in (
        *(MaskGRConfig, SASRecConfig, BSARecConfig, BERT4RecConfig, MaskGRItemsConfig, TIGERConfig),
        *(LIGERConfig, DreamRecConfig, CaDiRecConfig, RPGConfig, DiffGRMConfig, CooccurrenceConfig),
    )
}


def model_class(name: str) -> type[ModelConfig]:
    """Return the configuration class of a model.

    Raises:
        UserError: there is no model of that name.
    """
    if name not in MODELS:
        raise UserError(f"--model {name!r} is unknown; choose {', '.join(MODELS)}.")
    return MODELS[name]


def model_config(name: str, settings: dict[str, Any]) -> ModelConfig:
    """Return the configuration of a model.

    Raises:
        UserError: there is no model of that name, a setting belongs to another model, or a value has another
            type or is refused.
    """
    config = model_class(name)
    own = {f.name for f in fields(config)}
    for setting in settings:
        if setting not in own:
            others = ", ".join(
                other for other, kind in MODELS.items() if setting in {f.name for f in fields(kind)}
            )
            if not others:
                raise UserError(
                    f"{flag_named(setting)} is no option of any model in maskgr {__version__}. Train the run "
                    "again, or install the version that wrote it."
                )
            raise has_no_effect([flag_named(setting)], f"--model {name}", f"only on {others}")
    try:
        typed_json.check(settings, config)
    except typed_json.Mismatch as error:
        raise UserError(f"--model {name}: {error}.") from None
    return config(**settings)
