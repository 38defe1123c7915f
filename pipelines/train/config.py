"""How to train. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.decode.config import BEAMS
from pipelines.errors import UserError
from pipelines.models.config import PRECISIONS
from pipelines.options import PART, SEED, SHARE, check, option

OPTIMIZERS = ("adamw", "muon")
DECAY_SHAPES = ("cosine", "linear")
WINDOWS = ("random", "last")
HORIZON = (1, 100)
TOKENS = (1, 10_000_000)  # of one forward pass


@dataclass(frozen=True)
class TrainConfig:
    """Optimiser, schedule, batches, validation (defaults: the paper's, appendix A.1, where it states them).

    Training ends at `steps` or after `minutes`, whichever comes first; the learning rate follows the share of
    that budget that is used up. Steps make a run the same everywhere; `minutes` is a person's own bound.

    Raises:
        UserError: a value out of range or unknown, or no end to the training.
    """

    steps: int | None = field(default=None, metadata=option("Optimiser steps.", 1, 100_000_000))
    minutes: float | None = field(
        default=None, metadata=option("Bound on the wall time, beside the steps.", 1e-9, 1_000_000)
    )
    batch_size: int = field(
        default=8192, metadata=option("Sequences per optimiser step, over all processes.", 1, 1_000_000)
    )
    micro_tokens: int | None = field(
        default=None,
        metadata=option(
            "Most tokens in one forward pass; a step takes several. [default: 2,048 on a CPU, 32,768 on a GPU]",
            *TOKENS,
        ),
    )
    optimizer: str = field(
        default="adamw",
        metadata=option(
            f"Optimiser: {', '.join(OPTIMIZERS)} (for the blocks' matrices).", choices=OPTIMIZERS
        ),
    )
    learning_rate: float = field(default=0.005, metadata=option("Peak learning rate.", 1e-12, 1e9))
    weight_decay: float = field(default=0.001, metadata=option("Weight decay on matrices.", 0.0, 1000.0))
    warmup: float = field(
        default=0.02, metadata=option("Share of the budget in which the learning rate rises.", *SHARE)
    )
    decay: float = field(
        default=1.0,
        metadata=option(
            "Share of the budget, at its end, in which the learning rate falls; before, it stays.", *SHARE
        ),
    )
    decay_shape: str = field(
        default="cosine",
        metadata=option(f"How the learning rate falls: {' or '.join(DECAY_SHAPES)}.", choices=DECAY_SHAPES),
    )
    final_rate: float = field(
        default=0.0, metadata=option("Learning rate at the end, as a share of the peak.", *SHARE)
    )
    horizon: int = field(
        default=1,
        metadata=option("Items ahead k: a user's last k items test, the k before validate.", *HORIZON),
    )
    drop_items: float = field(
        default=0.0,
        metadata=option(
            "Share of each training sequence's items left out at random, three kept at least (section 4.3).",
            *PART,
        ),
    )
    windows: str = field(
        default="random",
        metadata=option(
            "What of a sequence longer than --max-items trains: random windows that cover it, or its last items alone.",
            choices=WINDOWS,
        ),
    )
    grad_clip: float = field(default=1.0, metadata=option("Largest gradient norm; 0 for none.", 0.0, 1e9))
    validations: int = field(
        default=20, metadata=option("Validations, evenly over the budget.", 1, 1_000_000)
    )
    validation_users: int = field(
        default=0, metadata=option("Users drawn for validation; 0 for all.", 0, SEED[1])
    )
    validation_beams: int = field(default=10, metadata=option("Beams in validation.", 10, BEAMS[1]))
    patience: int = field(
        default=0,
        metadata=option(
            "Stop after so many validations without a better Recall@10; 0 for never.", 0, 1_000_000
        ),
    )
    precision: str = field(
        default="auto",
        metadata=option(
            "Matrix products in fp32, bf16, or auto: bf16 where the hardware has it.", choices=PRECISIONS
        ),
    )
    seed: int = field(default=0, metadata=option("Seed of weights, batches, masks and dropout.", *SEED))

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise UserError("Training has no end: give --steps, --minutes or a --preset that has one.")
        check(self)
