"""How to train. Light to import: the command line makes options of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pipelines.errors import UserError, check_finite

OPTIMIZERS = ("adamw", "muon")
DECAY_SHAPES = ("cosine", "linear")
WINDOWS = ("random", "last")


@dataclass(frozen=True)
class TrainConfig:
    """Optimiser, schedule, batches, validation (defaults: the paper's, appendix A.1, where it states them).

    Training ends at `steps` or after `minutes`, whichever comes first; the learning rate follows the share of
    that budget that is used up. Steps make a run the same everywhere; `minutes` is a person's own bound.

    Raises:
        UserError: a value out of range or unknown, or no end to the training.
    """

    steps: int | None = field(default=None, metadata={"help": "Optimiser steps."})
    minutes: float | None = field(default=None, metadata={"help": "Bound on the wall time, validation included, beside the steps."})
    batch_size: int = field(default=8192, metadata={"help": "Sequences per optimiser step, over all processes."})
    micro_tokens: int | None = field(
        default=None, metadata={"help": "Most tokens in one forward pass; a step takes several. [default: 2,048 on a CPU, 32,768 on a GPU]"}
    )
    optimizer: str = field(default="adamw", metadata={"help": f"Optimiser: {', '.join(OPTIMIZERS)} (for the blocks' matrices)."})
    learning_rate: float = field(default=0.005, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.001, metadata={"help": "Weight decay on matrices."})
    warmup: float = field(default=0.02, metadata={"help": "Share of the budget in which the learning rate rises."})
    decay: float = field(
        default=1.0, metadata={"help": "Share of the budget, at its end, in which the learning rate falls; before, it stays."}
    )
    decay_shape: str = field(default="cosine", metadata={"help": f"How the learning rate falls: {' or '.join(DECAY_SHAPES)}."})
    final_rate: float = field(default=0.0, metadata={"help": "Learning rate at the end, as a share of the peak."})
    next: int = field(default=1, metadata={"help": "Items ahead k: a user's last k items test, the k before validate."})
    drop_items: float = field(
        default=0.0, metadata={"help": "Share of each training sequence's items left out at random, three kept at least (section 4.3)."}
    )
    windows: str = field(
        default="random",
        metadata={"help": "What of a sequence longer than --max-items trains: random windows that cover it, or its last items alone."},
    )
    clip: float = field(default=1.0, metadata={"help": "Largest gradient norm; 0 for none."})
    validations: int = field(default=20, metadata={"help": "Validations, evenly over the budget."})
    validation_users: int = field(default=0, metadata={"help": "Users drawn for validation; 0 for all."})
    validation_beams: int = field(default=10, metadata={"help": "Beams in validation."})
    patience: int = field(default=0, metadata={"help": "Stop after so many validations without a better Recall@10; 0 for never."})
    precision: str = field(default="auto", metadata={"help": "Matrix products in fp32, bf16, or auto: bf16 where the hardware has it."})
    seed: int = field(default=0, metadata={"help": "Seed of weights, batches, masks and dropout."})

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise UserError("Training has no end: give --steps, --minutes or a --preset that has one.")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"--optimizer {self.optimizer!r} is unknown; choose {', '.join(OPTIMIZERS)}.")
        if self.decay_shape not in DECAY_SHAPES:
            raise UserError(f"--decay-shape {self.decay_shape!r} is unknown; choose {', '.join(DECAY_SHAPES)}.")
        if self.windows not in WINDOWS:
            raise UserError(f"--windows {self.windows!r} is unknown; choose {', '.join(WINDOWS)}.")
        check_finite(self)
        ranges: dict[str, tuple[float, float]] = {
            "steps": (1, math.inf),
            "minutes": (1e-9, math.inf),
            "batch_size": (1, math.inf),
            "micro_tokens": (1, math.inf),
            "learning_rate": (1e-12, math.inf),
            "weight_decay": (0, math.inf),
            "warmup": (0, 1),
            "decay": (0, 1),
            "final_rate": (0, 1),
            "next": (1, math.inf),
            "drop_items": (0, 0.99),
            "clip": (0, math.inf),
            "validations": (1, math.inf),
            "validation_users": (0, math.inf),
            "validation_beams": (10, math.inf),
            "patience": (0, math.inf),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UserError(f"--{name.replace('_', '-')} is {value}; it must be between {low:g} and {high:g}.")
