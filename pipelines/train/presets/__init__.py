"""Presets of every model: the values that differ from the defaults of its configuration and of `TrainConfig`.

Every preset ends after a number of steps, so that a seed gives the same run on a fast machine and on a slow
one. `paper` and `small` end earlier if `patience` validations in a row were no better. Comments say which
values a publication states and which values are ours, meaning chosen by maskgr.
"""

from __future__ import annotations

from typing import Any

from pipelines.errors import UserError
from pipelines.train.presets.item_models import ITEM_MODELS
from pipelines.train.presets.maskgr import MASKGR_PRESETS
from pipelines.train.presets.sid_models import SID_MODELS

PRESET_NAMES = ("paper", "small", "smoke")  # of every model

PRESETS: dict[str, dict[str, dict[str, Any]]] = {"maskgr": MASKGR_PRESETS, **SID_MODELS, **ITEM_MODELS}


def preset_names(model: str) -> tuple[str, ...]:
    """Return the names of a model's presets.

    Raises:
        UserError: the model does not exist.
    """
    if model not in PRESETS:
        raise UserError(f"--model {model!r} is unknown; choose {', '.join(PRESETS)}.")
    return tuple(PRESETS[model])


def preset(model: str, name: str) -> dict[str, Any]:
    """Return the values of a model's preset by field name.

    Raises:
        UserError: The model does not exist, or has no preset of that name.
    """
    if name not in preset_names(model):
        raise UserError(
            f"--preset {name!r} is none of --model {model}; choose {', '.join(preset_names(model))}."
        )
    return dict(PRESETS[model][name])
