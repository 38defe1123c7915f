"""What `maskgr tune` looks through, by model: option → where its value is drawn from. Light to import."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Between:
    """A number between two others, evenly or, with `log`, evenly in its logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Among:
    """One of a few values."""

    values: tuple[str | int | float | bool, ...]


Space = dict[str, Between | Among]

TRAINING: Space = {
    "optimizer": Among(("adamw", "muon")),
    "learning_rate": Between(3e-4, 0.02, log=True),
    "weight_decay": Between(1e-4, 0.3, log=True),
    "batch_size": Among((64, 128, 256, 512)),
    "dropout": Between(0.0, 0.6),
}
SMOOTHED: Space = {"label_smoothing": Between(0.0, 0.3)}

SPACES: dict[str, Space] = {
    "maskgr": {**TRAINING, **SMOOTHED, "layers": Among((2, 3, 4)), "whole_item": Between(0.0, 1.0)},
    "sasrec": {**TRAINING, **SMOOTHED, "layers": Among((1, 2, 3))},
    "bert4rec": {
        **TRAINING,
        **SMOOTHED,
        "layers": Among((1, 2, 3)),
        "mask_ratio": Between(0.1, 0.8),
        "next_item": Between(0.0, 1.0),
    },
    "maskgr-items": {**TRAINING, **SMOOTHED, "layers": Among((1, 2, 3)), "next_item": Between(0.0, 1.0)},
    "tiger": {**TRAINING, **SMOOTHED, "layers": Among((1, 2, 3))},
    "liger": {**TRAINING, **SMOOTHED, "layers": Among((1, 2, 3))},
    "dreamrec": {**TRAINING, "layers": Among((1, 2, 3)), "history_dropout": Between(0.0, 0.5)},
    "cadirec": {
        **TRAINING,
        **SMOOTHED,
        "layers": Among((1, 2, 3)),
        "contrastive": Between(0.0, 1.0),
        "denoising": Between(0.0, 1.0),
    },
    "rpg": {**TRAINING, **SMOOTHED, "layers": Among((1, 2, 3)), "temperature": Between(0.03, 0.3, log=True)},
    "diffgrm": {**TRAINING, **SMOOTHED, "layers": Among((1, 2, 3)), "decoder_layers": Among((1, 2, 4))},
}
