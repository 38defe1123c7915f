"""The shape of a model. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.errors import UserError

ATTENTION = ("full", "prefix")
TOKENS = ("digit", "item")
LIKELIHOODS = ("digit", "item")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and kind of a transformer over item histories (defaults: the paper's, section 4.1).

    Raises:
        UserError: a size that is not positive, a width that the heads do not divide, a dropout outside [0, 1), a layer that
            does not exist, a kind that is unknown or needs another.
    """

    layers: int = field(default=8, metadata={"help": "Transformer blocks."})
    width: int = field(default=128, metadata={"help": "Width D of the hidden states."})
    heads: int = field(default=8, metadata={"help": "Attention heads; must divide the width."})
    mlp: int = field(default=3072, metadata={"help": "Hidden width of each block's MLP."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout on embeddings and on each residual branch."})
    label_smoothing: float = field(
        default=0.0, metadata={"help": "Share of what a masked digit's target counts that training spreads over all codes, or items."}
    )
    attention: str = field(
        default="full",
        metadata={"help": "full as in the paper, or prefix: an item sees itself and what came before, so histories are encoded once."},
    )
    tokens: str = field(default="digit", metadata={"help": "What a token is: a digit as in the paper, or an item with all its digits."})
    likelihood: str = field(
        default="digit", metadata={"help": "Of masked digits: each alone as in the paper (digit), or an item's together (item)."}
    )
    item_embeddings: bool = field(default=False, metadata={"help": "A learnt embedding for each item, beside those of its digits."})
    negatives: int = field(
        default=0, metadata={"help": "Items drawn to compare a masked item with in training, --likelihood item; 0: the whole catalogue."}
    )
    max_items: int = field(default=24, metadata={"help": "Items of history a model sees: the most recent ones."})
    dense: bool = field(default=False, metadata={"help": "Dense retrieval too: item texts go in, text embeddings come out (section 3.3)."})
    dense_layer: int | None = field(
        default=None, metadata={"help": "Layer after which text embeddings are predicted. [default: half of the layers]"}
    )

    def __post_init__(self) -> None:
        for name, choices in (("attention", ATTENTION), ("tokens", TOKENS), ("likelihood", LIKELIHOODS)):
            if getattr(self, name) not in choices:
                raise UserError(f"--{name} {getattr(self, name)!r} is unknown; choose {' or '.join(choices)}.")
        needs = (
            ("--likelihood item", "--likelihood digit", self.likelihood == "item"),
            ("--item-embeddings", "--no-item-embeddings", self.item_embeddings),
        )
        for option, instead, used in needs:
            if used and self.tokens != "item":
                raise UserError(f"{option} goes with --tokens item; with --tokens {self.tokens} take {instead}.")
        for name in ("layers", "width", "heads", "mlp", "max_items"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1.")
        if self.negatives < 0 or (self.negatives and self.likelihood != "item"):
            raise UserError(f"--negatives is {self.negatives}; it goes with --likelihood item and is at least 0.")
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width} must be a multiple of twice --heads ({self.heads}): rotary positions turn pairs.")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 0 and below 1.")
        if self.dense_layer is not None and not (self.dense and 1 <= self.dense_layer <= self.layers):
            raise UserError(f"--dense-layer is {self.dense_layer}; it goes with --dense and lies between 1 and --layers ({self.layers}).")

    @property
    def dense_depth(self) -> int:
        """η: the layers that a text embedding is predicted from; the paper's 4 of 8 (section 4.6) where none is given."""
        return self.dense_layer or max(1, self.layers // 2)
