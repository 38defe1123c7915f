"""Options of the models over semantic IDs. Light to import: the command line makes options of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipelines.errors import UserError
from pipelines.models.config import (
    BLOCKS,
    TEMPERATURE,
    ModelConfig,
    history_dropout_option,
    label_smoothing_option,
    negatives_option,
    next_item_option,
    repeat_bias_option,
)
from pipelines.options import GIVEN, SHARE, WEIGHT, option

ATTENTION = ("full", "prefix")
TOKENS = ("digit", "item")
LIKELIHOODS = ("digit", "item")
NOISINGS = ("on-policy", "random")
ITEM_TOKENS = {"tokens": ("item",)}
ITEM_SOFTMAX = {"likelihood": ("item",)}
DENSE_VECTORS = ("texts", "learned")


@dataclass(frozen=True)
class MaskGRConfig(ModelConfig):
    """Masked diffusion over semantic IDs.

    Raises:
        UserError: as `ModelConfig`; the dense layer does not exist.
    """

    name: ClassVar[str] = "maskgr"
    implementation: ClassVar[str] = "pipelines.models.sid_models.maskgr:MaskGR"
    learns_from_teachers: ClassVar[bool] = True

    label_smoothing: float = field(default=0.0, metadata=label_smoothing_option())
    attention: str = field(
        default="full",
        metadata=option(
            "full, as in the paper; or prefix: an item sees itself and the items before it, so that a "
            "history is encoded once.",
            choices=ATTENTION,
        ),
    )
    tokens: str = field(
        default="digit",
        metadata=option(
            "Tokens of the transformer: a digit, as in the paper, or an item with all its digits.",
            choices=TOKENS,
        ),
    )
    likelihood: str = field(
        default="digit",
        metadata=option(
            "Distribution of masked digits: independent, as in the paper (digit), or joint over the digits "
            "of an item (item).",
            choices=LIKELIHOODS,
            requires=ITEM_TOKENS,
        ),
    )
    centroids: bool = field(
        default=False,
        metadata=option(
            "Start digit embeddings from the texts of the items that have their codes, not at random."
        ),
    )
    item_embeddings: bool = field(
        default=False,
        metadata=option(
            "A learned embedding for each item, besides those of its digits.", requires=ITEM_TOKENS
        ),
    )
    repeat_bias: bool = field(
        default=False,
        metadata=repeat_bias_option({**ITEM_SOFTMAX, "attention": ("prefix",)}),
    )
    negatives: int = field(default=0, metadata=negatives_option(ITEM_SOFTMAX))
    next_item: float = field(default=0.0, metadata=next_item_option({"attention": ("full",)}))
    history_dropout: float = field(default=0.0, metadata=history_dropout_option())
    whole_item: float | None = field(
        default=None,
        metadata=option(
            "Share of sequences (prefix attention: of items) whose items are masked fully. [default: 0.2 "
            "with --dense, else 0]",
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
            "Layer after which text embeddings are predicted. [default: half of the layers; the last with "
            "--dense-vectors learned]",
            *BLOCKS,
            requires={"dense": GIVEN},
        ),
    )

    dense_vectors: str = field(
        default="texts",
        metadata=option(
            "Vectors of items in dense retrieval: their text embeddings, as in the paper (texts), or a "
            "learned function of these (learned, which the preset small takes).",
            choices=DENSE_VECTORS,
            requires={"dense": GIVEN},
        ),
    )
    dense_loss: float = field(
        default=1.0,
        metadata=option(
            "Weight of the loss of dense retrieval beside that of the digits; the preset small takes 0.1.",
            *WEIGHT,
            requires={"dense": GIVEN},
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dense_layer is not None and self.dense_layer > self.layers:
            raise UserError(
                f"--dense-layer {self.dense_layer} must lie between 1 and --layers ({self.layers})."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids", "embeddings") if self.dense else ("sids",)

    @property
    def scores_codes_alone(self) -> bool:
        return self.likelihood == "item" and not self.item_embeddings

    @property
    def compares_with_all(self) -> bool:
        return self.likelihood == "item" and not self.negatives

    @property
    def training_needs(self) -> tuple[str, ...]:
        return ("sids", "embeddings") if self.dense or self.centroids else ("sids",)

    @property
    def window(self) -> int:
        return self.max_items

    def logits(self, items: int, columns: int) -> int:
        """Return the number of logits of a target; see `ModelConfig.logits`."""
        return (self.negatives or items) if self.likelihood == "item" else columns

    def check_horizon(self, horizon: int) -> None:
        """Check that the model can predict so many items together; see `ModelConfig.check_horizon`."""
        if horizon > 1 and self.attention == "prefix":
            raise UserError(
                f"--horizon {horizon} needs --attention full: prefix attention learns one item after a "
                "clean history."
            )
        if horizon > 1 and self.dense:
            raise UserError(
                f"--horizon {horizon} does not go with --dense: dense retrieval ranks the next item alone. "
                "Leave one out."
            )

    @property
    def dense_depth(self) -> int:
        """η, number of layers before the predicted text embedding; by default half, as the paper's 4 of 8
        (section 4.6), and all with learned vectors.
        """
        if self.dense_layer:
            return self.dense_layer
        return self.layers if self.dense_vectors == "learned" else max(1, self.layers // 2)

    @property
    def dense_from(self) -> str:
        return f"layer {self.dense_depth}"


@dataclass(frozen=True)
class TIGERConfig(ModelConfig):
    """An encoder and a decoder of `layers` blocks each, digits left to right (Rajput et al. 2023, arXiv
    2305.05065).
    """

    name: ClassVar[str] = "tiger"
    implementation: ClassVar[str] = "pipelines.models.sid_models.tiger:TIGER"
    learns_from_teachers: ClassVar[bool] = True
    examples: ClassVar[str] = "prefixes"

    label_smoothing: float = field(default=0.0, metadata=label_smoothing_option())
    user_tokens: int = field(
        default=0,
        metadata=option(
            "Number of tokens that users are hashed into, one with each history; 0: none.", 0, 10_000_000
        ),
    )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids",)

    def check_horizon(self, horizon: int) -> None:
        """Allow any horizon: k items are k·H digits from left to right."""


@dataclass(frozen=True)
class LIGERConfig(TIGERConfig):
    """TIGER with item texts in and a text embedding out (Yang et al. 2024, arXiv 2411.18814)."""

    name: ClassVar[str] = "liger"
    implementation: ClassVar[str] = "pipelines.models.sid_models.liger:LIGER"

    negatives: int = field(default=0, metadata=negatives_option())

    @property
    def compares_with_all(self) -> bool:
        return not self.negatives

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids", "embeddings")

    @property
    def dense_from(self) -> str:
        return "the decoder's first state"

    def logits(self, items: int, columns: int) -> int:
        """Return the number of logits of a target; see `ModelConfig.logits`."""
        return columns + (self.negatives or items)

    def check_horizon(self, horizon: int) -> None:
        """Refuse a horizon above 1, which TIGER allows; see `ModelConfig.check_horizon`."""
        ModelConfig.check_horizon(self, horizon)


@dataclass(frozen=True)
class RPGConfig(ModelConfig):
    """All digits of the next item at once (Hou et al. 2025, arXiv 2506.05781)."""

    name: ClassVar[str] = "rpg"
    implementation: ClassVar[str] = "pipelines.models.sid_models.rpg:RPG"
    learns_from_teachers: ClassVar[bool] = True

    temperature: float = field(
        default=0.03,
        metadata=option("Temperature τ that divides the cosines of states and codes.", *TEMPERATURE),
    )
    label_smoothing: float = field(default=0.0, metadata=label_smoothing_option())

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids",)


@dataclass(frozen=True)
class DiffGRMConfig(ModelConfig):
    """An encoder of `layers` blocks and a masked-diffusion decoder of the next item's digits.

    Source: Liu et al. 2025, arXiv 2510.21805.
    """

    name: ClassVar[str] = "diffgrm"
    implementation: ClassVar[str] = "pipelines.models.sid_models.diffgrm:DiffGRM"
    learns_from_teachers: ClassVar[bool] = True
    examples: ClassVar[str] = "prefixes"

    decoder_layers: int = field(default=4, metadata=option("Number of blocks of the decoder.", *BLOCKS))
    views: int | None = field(
        default=None,
        metadata=option(
            "Number of nested sets of masked digits per example. [default: one per digit]", 1, 256
        ),
    )
    noising: str = field(
        default="on-policy",
        metadata=option(
            "Digits masked first: on-policy, those of least confidence, or random ones.", choices=NOISINGS
        ),
    )
    label_smoothing: float = field(default=0.0, metadata=label_smoothing_option())

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids",)
