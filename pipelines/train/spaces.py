"""Search spaces of `maskgr tune`: the options of each model that are searched, and their possible values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FloatRange:
    """Range of a number.

    Attributes:
        low: smallest value.
        high: largest value.
        log: if true, values are drawn uniformly in the logarithm.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choices:
    """A few values to choose from."""

    values: tuple[str | int | float | bool, ...]


Space = dict[str, FloatRange | Choices]  # field name of an option → its possible values

TRAINING: Space = {
    "optimizer": Choices(("adamw", "muon")),
    "learning_rate": FloatRange(3e-4, 0.02, log=True),
    "weight_decay": FloatRange(1e-4, 0.3, log=True),
    "batch_size": Choices((64, 128, 256, 512)),
    "dropout": FloatRange(0.0, 0.6),
}
SMOOTHING: Space = {"label_smoothing": FloatRange(0.0, 0.3)}
LAYERS: Space = {"layers": Choices((1, 2, 3))}

SPACES: dict[str, Space] = {
    "maskgr": {**TRAINING, **SMOOTHING, "layers": Choices((2, 3, 4)), "whole_item": FloatRange(0.0, 1.0)},
    "sasrec": {**TRAINING, **SMOOTHING, **LAYERS},
    "bsarec": {
        **TRAINING,
        **SMOOTHING,
        **LAYERS,
        "heads": Choices((1, 2, 4)),
        "filter_share": FloatRange(0.0, 1.0),
        "low_frequencies": Choices((1, 3, 5, 7, 9)),
    },
    "bert4rec": {
        **TRAINING,
        **SMOOTHING,
        **LAYERS,
        "mask_ratio": FloatRange(0.1, 0.8),
        "next_item": FloatRange(0.0, 1.0),
    },
    "maskgr-items": {**TRAINING, **SMOOTHING, **LAYERS, "next_item": FloatRange(0.0, 1.0)},
    "tiger": {**TRAINING, **SMOOTHING, **LAYERS},
    "liger": {**TRAINING, **SMOOTHING, **LAYERS},
    "dreamrec": {**TRAINING, **LAYERS, "history_dropout": FloatRange(0.0, 0.5)},
    "cadirec": {
        **TRAINING,
        **SMOOTHING,
        **LAYERS,
        "contrastive": FloatRange(0.0, 1.0),
        "denoising": FloatRange(0.0, 1.0),
    },
    "rpg": {**TRAINING, **SMOOTHING, **LAYERS, "temperature": FloatRange(0.03, 0.3, log=True)},
    "diffgrm": {**TRAINING, **SMOOTHING, **LAYERS, "decoder_layers": Choices((1, 2, 4))},
    "cooccurrence": {
        "reach": Choices((1, 2, 3, 5, 8, 12)),
        "backward": FloatRange(0.0, 1.0),
        "recency": FloatRange(0.05, 1.0),
        "popularity": FloatRange(0.001, 0.5, log=True),
        "max_items": Choices((1, 2, 4, 8, 16, 32)),
    },
}
