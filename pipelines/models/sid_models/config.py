"""Options of the models over semantic IDs. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipelines.errors import UserError
from pipelines.models.config import (
    BLOCKS,
    HISTORY_DROPOUT,
    NEGATIVES,
    NEXT_ITEM,
    REPEAT_BIAS,
    SMOOTHING,
    TEMPERATURE,
    ModelConfig,
)
from pipelines.options import SHARE, option

ATTENTION = ("full", "prefix")
TOKENS = ("digit", "item")
LIKELIHOODS = ("digit", "item")
NOISINGS = ("on-policy", "random")


@dataclass(frozen=True)
class MaskGRConfig(ModelConfig):
    """Masked diffusion over semantic IDs.

    Raises:
        UserError: as `ModelConfig`; a layer that does not exist, a kind that is unknown or needs another.
    """

    name: ClassVar[str] = "maskgr"
    implementation: ClassVar[str] = "pipelines.models.sid_models.maskgr:MaskGR"

    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    attention: str = field(
        default="full",
        metadata=option(
            "full as in the paper, or prefix: an item sees itself and what came before, so histories are encoded once.",
            choices=ATTENTION,
        ),
    )
    tokens: str = field(
        default="digit",
        metadata=option(
            "What a token is: a digit as in the paper, or an item with all its digits.", choices=TOKENS
        ),
    )
    likelihood: str = field(
        default="digit",
        metadata=option(
            "Of masked digits: each alone as in the paper (digit), or an item's together (item).",
            choices=LIKELIHOODS,
        ),
    )
    centroids: bool = field(
        default=False,
        metadata=option(
            "Digit embeddings start from the texts of the items that have their codes, not at random."
        ),
    )
    item_embeddings: bool = field(
        default=False, metadata=option("A learnt embedding for each item, beside those of its digits.")
    )
    repeat_bias: bool = field(default=False, metadata=REPEAT_BIAS)
    negatives: int = field(default=0, metadata=NEGATIVES)
    next_item: float = field(default=0.0, metadata=NEXT_ITEM)
    history_dropout: float = field(default=0.0, metadata=HISTORY_DROPOUT)
    whole_item: float | None = field(
        default=None,
        metadata=option(
            "Share of sequences (prefix attention: of items) whose items are masked whole. [default: 0.2 with --dense, else 0]",
            *SHARE,
        ),
    )
    dense: bool = field(
        default=False,
        metadata=option("Dense retrieval too: item texts go in, text embeddings come out (section 3.3)."),
    )
    dense_layer: int | None = field(
        default=None,
        metadata=option(
            "Layer after which text embeddings are predicted. [default: half of the layers]", *BLOCKS
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        needs = (
            ("--likelihood item", "--likelihood digit", self.likelihood == "item"),
            ("--item-embeddings", "--no-item-embeddings", self.item_embeddings),
        )
        for typed, instead, used in needs:
            if used and self.tokens != "item":
                raise UserError(
                    f"{typed} goes with --tokens item; with --tokens {self.tokens} take {instead}."
                )
        if self.negatives and self.likelihood != "item":
            raise UserError(
                f"--negatives goes with --likelihood item, not with --likelihood {self.likelihood}. Leave it out."
            )
        if self.repeat_bias and (self.likelihood != "item" or self.attention != "prefix"):
            raise UserError(
                "--repeat-bias needs --likelihood item and --attention prefix. Take --no-repeat-bias."
            )
        self.check_repeat_bias()
        if self.next_item and self.attention == "prefix":
            raise UserError(
                "--next-item means nothing to --attention prefix, where every item is predicted from its past. Leave one out."
            )
        if self.dense_layer is not None and not (self.dense and self.dense_layer <= self.layers):
            raise UserError(
                f"--dense-layer is {self.dense_layer}; it goes with --dense and lies between 1 and --layers ({self.layers})."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids", "embeddings") if self.dense else ("sids",)

    @property
    def training_needs(self) -> tuple[str, ...]:
        return ("sids", "embeddings") if self.dense or self.centroids else ("sids",)

    @property
    def window(self) -> int:
        return self.max_items

    def check_horizon(self, horizon: int) -> None:
        if horizon > 1 and self.attention == "prefix":
            raise UserError(
                f"--horizon {horizon} needs --attention full: prefix attention learns one item after a clean past."
            )
        if horizon > 1 and self.dense:
            raise UserError(
                f"--horizon {horizon} does not go with --dense: dense retrieval ranks one item ahead. Leave one out."
            )

    @property
    def dense_depth(self) -> int:
        """η: the layers that a text embedding is predicted from; the paper's 4 of 8 (section 4.6) where none is given."""
        return self.dense_layer or max(1, self.layers // 2)

    @property
    def dense_from(self) -> str:
        """What text embeddings are predicted by."""
        return f"layer {self.dense_depth}"


@dataclass(frozen=True)
class TIGERConfig(ModelConfig):
    """An encoder and a decoder of `layers` blocks each, digits from left to right (Rajput et al. 2023, arXiv 2305.05065)."""

    name: ClassVar[str] = "tiger"
    implementation: ClassVar[str] = "pipelines.models.sid_models.tiger:TIGER"
    examples: ClassVar[str] = "prefixes"

    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    user_tokens: int = field(
        default=0,
        metadata=option("Tokens that users are hashed into, one with each history; 0: none.", 0, 10_000_000),
    )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids",)

    def check_horizon(self, horizon: int) -> None:
        """Any number: k items are k·H digits from left to right."""


@dataclass(frozen=True)
class LIGERConfig(TIGERConfig):
    """TIGER with item texts going in and a text embedding coming out (Yang et al. 2024, arXiv 2411.18814)."""

    name: ClassVar[str] = "liger"
    implementation: ClassVar[str] = "pipelines.models.sid_models.liger:LIGER"

    negatives: int = field(default=0, metadata=NEGATIVES)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids", "embeddings")

    @property
    def dense_from(self) -> str:
        """What text embeddings are predicted by."""
        return "the decoder's first state"

    def check_horizon(self, horizon: int) -> None:
        ModelConfig.check_horizon(self, horizon)


@dataclass(frozen=True)
class RPGConfig(ModelConfig):
    """All digits of the next item at once (Hou et al. 2025, arXiv 2506.05781)."""

    name: ClassVar[str] = "rpg"
    implementation: ClassVar[str] = "pipelines.models.sid_models.rpg:RPG"

    temperature: float = field(
        default=0.03, metadata=option("τ that cosines of states and codes are divided by.", *TEMPERATURE)
    )
    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids",)


@dataclass(frozen=True)
class DiffGRMConfig(ModelConfig):
    """An encoder of `layers` blocks and a masked-diffusion decoder of the next item's digits (Liu et al. 2025, arXiv 2510.21805)."""

    name: ClassVar[str] = "diffgrm"
    implementation: ClassVar[str] = "pipelines.models.sid_models.diffgrm:DiffGRM"
    examples: ClassVar[str] = "prefixes"

    decoder_layers: int = field(default=4, metadata=option("Blocks of the decoder.", *BLOCKS))
    views: int | None = field(
        default=None,
        metadata=option("Nested sets of digits masked of each example. [default: one a digit]", 1, 256),
    )
    noising: str = field(
        default="on-policy",
        metadata=option(
            "Digits masked first: on-policy, those the model is least sure of, or random ones.",
            choices=NOISINGS,
        ),
    )
    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids",)
