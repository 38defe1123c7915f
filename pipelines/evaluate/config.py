"""The settings of an evaluation. Light to import: the command line makes options of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.decode.config import Decoding
from pipelines.models.config import HORIZON, PASS_TOKENS, PRECISIONS
from pipelines.options import SEED, check, option

SPLITS = ("test", "validation")
GROUPINGS = (POPULARITY, HISTORY_LENGTH, COLD) = ("popularity", "history-length", "cold")
CUTOFFS = (5, 10, 20, 40)  # k of Recall@k and NDCG@k, up to the number of beams


@dataclass(frozen=True)
class EvalConfig:
    """Settings of an evaluation; scores are float32 in any precision.

    Raises:
        UserError: a value is out of its bounds or unknown.
    """

    decoding: Decoding = field(default_factory=Decoding)
    split: str = field(
        default="test",
        metadata=option(
            "Split: the targets of the test (each user's last item) or of the validation. [default: test]",
            choices=SPLITS,
        ),
    )
    horizon: int | None = field(
        default=None,
        metadata=option("Number of items to recommend together. [default: that of the training]", *HORIZON),
    )
    users: int | None = field(
        default=None,
        metadata=option("Number of random users, drawn with --seed. [default: all users]", 1, SEED[1]),
    )
    tokens: int | None = field(
        default=None,
        metadata=option(
            "Largest number of tokens in one forward pass; bounds the memory, changes no result. [default: "
            "8,192 on a CPU, 65,536 on a GPU]",
            *PASS_TOKENS,
        ),
    )
    precision: str = field(
        default="auto",
        metadata=option(
            "Precision of matrix products: fp32, bf16, or auto: bf16 where the hardware has it. [default: "
            "auto]",
            choices=PRECISIONS,
        ),
    )

    by: str | None = field(
        default=None,
        metadata=option(
            "Metrics of groups of targets too: by the popularity of the target or the length of the history, "
            "in quartiles, or cold and warm targets apart.",
            choices=GROUPINGS,
        ),
    )

    def __post_init__(self) -> None:
        check(self)
