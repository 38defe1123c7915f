"""Hyperparameters of training. Light to import: the command line makes options of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipelines.decode.config import BEAMS
from pipelines.errors import UserError
from pipelines.models.config import HORIZON, PASS_TOKENS, PRECISIONS, ModelConfig
from pipelines.names import checked_name
from pipelines.options import GIVEN, PART, SEED, SHARE, check, flag_named, has_no_effect, option

OPTIMIZERS = ("adamw", "muon")
DECAY_SHAPES = ("cosine", "linear")
WINDOWS = ("random", "last")
SHUFFLES = ("auto", "all", "groups")
# Of a run that continues another one: shares of the steps and of the peak learning rate of the first run.
# Chosen on validation of Beauty after its last interactions came (docs/training.md, "Continued runs").
CONTINUED_STEPS = 0.3
CONTINUED_RATE = 1.0
TEACHERS = {"distill": GIVEN}


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of the optimizer, the schedule, the batches and the validations.

    The defaults are those of the paper (appendix A.1) where it states them.

    Training ends after `steps` or after `minutes`, whichever comes first. The learning rate follows the
    fraction of that budget that is used. A run that ends by steps is the same on every machine; `minutes` is
    an optional bound of the user's.

    Raises:
        UserError: A value is out of range or unknown, or neither `steps` nor `minutes` is set.
    """

    steps: int | None = field(default=None, metadata=option("Number of optimizer steps.", 1, 100_000_000))
    minutes: float | None = field(
        default=None,
        metadata=option("Upper bound on the training time in minutes, beside --steps.", 1e-9, 1_000_000),
    )
    batch_size: int = field(
        default=8192,
        metadata=option("Number of sequences per optimizer step, over all processes.", 1, 1_000_000),
    )
    micro_tokens: int | None = field(
        default=None,
        metadata=option(
            "Largest number of tokens in one forward pass; a step is split into several passes. "
            "[default: 2,048 on a CPU, 32,768 on a GPU]",
            *PASS_TOKENS,
        ),
    )
    optimizer: str = field(
        default="adamw",
        metadata=option(
            "Optimizer: adamw, or muon for the matrices of the blocks and adamw for the rest.",
            choices=OPTIMIZERS,
        ),
    )
    learning_rate: float = field(default=0.005, metadata=option("Peak learning rate.", 1e-12, 1e9))
    weight_decay: float = field(default=0.001, metadata=option("Weight decay of matrices.", 0.0, 1000.0))
    warmup: float = field(
        default=0.02,
        metadata=option("Fraction of the training in which the learning rate rises to its peak.", *SHARE),
    )
    decay: float = field(
        default=1.0,
        metadata=option(
            "Fraction of the training, at its end, in which the learning rate falls; before, it is constant.",
            *SHARE,
        ),
    )
    decay_shape: str = field(
        default="cosine",
        metadata=option(
            f"Shape of the learning rate's decay: {' or '.join(DECAY_SHAPES)}.", choices=DECAY_SHAPES
        ),
    )
    final_rate: float = field(
        default=0.0, metadata=option("Final learning rate, as a fraction of the peak.", *SHARE)
    )
    horizon: int = field(
        default=1,
        metadata=option(
            "Number of items k that are predicted together: a user's last k items are for testing, "
            "the k items before them for validation.",
            *HORIZON,
        ),
    )
    drop_items: float = field(
        default=0.0,
        metadata=option(
            "Fraction of the items of each training sequence that is dropped at random; "
            "at least three items remain (section 4.3).",
            *PART,
        ),
    )
    cold: float = field(
        default=0.0,
        metadata=option(
            "Fraction of the items whose interactions are left out of the training, drawn at random. They "
            "and the items that no training interaction has are new to the model; eval then measures their "
            "targets apart.",
            *PART,
        ),
    )
    distill: str | None = field(
        default=None,
        metadata=option(
            "Teachers: trained runs, separated by commas, whose item probabilities (of several runs, their "
            "geometric mean) are soft targets beside the true items (Hinton et al. 2015)."
        ),
    )
    teacher_share: float = field(
        default=0.9,
        metadata=option(
            "Share of the teachers in a soft target; the true item has the rest.", *SHARE, requires=TEACHERS
        ),
    )
    teacher_items: int = field(
        default=128,
        metadata=option(
            "Number of the teachers' best items at each place whose probabilities are kept.",
            1,
            1024,
            requires=TEACHERS,
        ),
    )
    windows: str = field(
        default="random",
        metadata=option(
            "Training windows of a sequence longer than --max-items: random windows that cover it, "
            "or last, its last items only.",
            choices=WINDOWS,
        ),
    )
    shuffle: str = field(
        default="auto",
        metadata=option(
            "Order of the training sequences: all, of the whole data set in memory; groups, of the row "
            "groups of its files, read a block at a time; auto, groups where the sequences would take more "
            "than a sixteenth of the memory.",
            choices=SHUFFLES,
        ),
    )
    grad_clip: float = field(
        default=1.0,
        metadata=option("Largest gradient norm; larger gradients are clipped. 0: no clipping.", 0.0, 1e9),
    )
    validations: int = field(
        default=20,
        metadata=option("Number of validations, evenly spaced over the training.", 1, 1_000_000),
    )
    validation_users: int = field(
        default=0, metadata=option("Number of random users for validation. 0: all users.", 0, SEED[1])
    )
    validation_beams: int = field(default=10, metadata=option("Number of beams in validation.", 10, BEAMS[1]))
    patience: int = field(
        default=0,
        metadata=option(
            "Number of validations in a row without a better Recall@10 that ends the training. 0: no limit.",
            0,
            1_000_000,
        ),
    )
    precision: str = field(
        default="auto",
        metadata=option(
            "Precision of matrix products: fp32, bf16, or auto (bf16 where the hardware supports it).",
            choices=PRECISIONS,
        ),
    )
    seed: int = field(
        default=0, metadata=option("Random seed of weights, batches, masks and dropout.", *SEED)
    )

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise UserError("Training has no end: give --steps, --minutes or a --preset that has one.")
        check(self)
        for name in self.teachers:
            checked_name(name)
        if len(set(self.teachers)) < len(self.teachers):
            raise UserError(f"--distill {self.distill} names a run twice.")

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the runs whose probabilities are soft targets."""
        return () if self.distill is None else tuple(name.strip() for name in self.distill.split(","))


# Options of the training that a run that continues another one may replace; the others are those of the run.
CONTINUED_OPTIONS = {field.name for field in dataclasses.fields(TrainConfig)} - {"horizon", "cold"}

# Options of the training that a counted model reads; it refuses --horizon itself.
COUNTED_OPTIONS = {
    *("horizon", "cold", "drop_items", "shuffle", "distill"),
    *("validation_users", "validation_beams", "seed"),
}


def unread_options(model: type[ModelConfig]) -> set[str]:
    """Return the options that neither a model nor its training reads: of a counted model, those of blocks and
    of steps.
    """
    if not model.is_counted:
        return set()
    return model.unread() | {field.name for field in dataclasses.fields(TrainConfig)} - COUNTED_OPTIONS


def check_read(model: type[ModelConfig], given: Iterable[str]) -> None:
    """Check that a model and its training read the options that a user gave.

    Args:
        model: configuration class of the model.
        given: names of the options' fields.

    Raises:
        UserError: an option has no effect.
    """
    unread = unread_options(model)
    if flags := [flag_named(name) for name in given if name in unread]:
        reason = "which is counted in one pass, without blocks and steps"
        raise has_no_effect(flags, f"--model {model.name}", reason)
