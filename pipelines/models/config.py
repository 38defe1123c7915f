"""What every model's configuration has. Light to import: the command line makes options of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.errors import UserError
from pipelines.options import PART, SHARE, check, option

PRECISIONS = ("auto", "fp32", "bf16")
SMOOTHING = option(
    "Share of what a masked or next item's target counts that training spreads over all codes, or items.",
    *PART,
)
NEXT_ITEM = option(
    "Share of sequences cut at a random item, only that one masked; 0: masks anywhere, as in the papers.",
    *SHARE,
)
HISTORY_DROPOUT = option(
    "Share of examples (maskgr: sequences, cut to one item) whose history training takes away, for eval --guidance.",
    *PART,
)
REPEAT_BIAS = option(
    "A learnt score for items that the history holds: whether people take things again need not be found by attention."
)
NEGATIVES = option("Items drawn to compare an item with in training; 0: the whole catalogue.", 0, 1_000_000)
BLOCKS = (1, 256)
TEMPERATURE = (1e-6, 10_000.0)

SIZES = (
    "layers",
    "width",
    "heads",
    "mlp",
    "dropout",
    "max_items",
    "decoder_layers",
    "dense_layer",
)  # what makes no other kind of model
SAID = {  # field → how a table says its value
    "attention": "{} attention",
    "tokens": "{} tokens",
    "likelihood": {"item": "joint digits", "digit": "digits apart"},
    "optimizer": {"muon": "Muon", "adamw": "AdamW"},
    "loss": "{} loss",
    "negatives": "{:,} negatives",
    "ranking": "cross-entropy {:g}",
    "vector_length": "vectors {:g} long",
    "timesteps": "{:,} steps",
    "noise_schedule": "{} noise",
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes that every model has (defaults: the paper's, section 4.1, which names neither dropout nor length of history).

    Class attributes:
        name: what `--model` calls it.
        published: fields that the publication has otherwise than the defaults, of those that make it another kind of model.
        implementation: its class, "module:Class"; imported only when a model is built.
        examples: what it trains on: "sequences", or "prefixes" where each item is a target after its history, an example each.

    Raises:
        UserError: a value out of its bounds, a width that the heads do not divide.
    """

    name: ClassVar[str]
    implementation: ClassVar[str]
    examples: ClassVar[str] = "sequences"
    published: ClassVar[dict[str, Any]] = {}

    layers: int = field(default=8, metadata=option("Transformer blocks.", *BLOCKS))
    width: int = field(default=128, metadata=option("Width D of the hidden states.", 1, 16_384))
    heads: int = field(default=8, metadata=option("Attention heads; must divide the width.", 1, 1024))
    mlp: int = field(default=3072, metadata=option("Hidden width of each block's MLP.", 1, 131_072))
    dropout: float = field(
        default=0.1, metadata=option("Dropout on embeddings and on each residual branch.", *PART)
    )
    max_items: int = field(
        default=24, metadata=option("Items of history a model sees: the most recent ones.", 1, 100_000)
    )

    def __post_init__(self) -> None:
        check(self)
        if self.width % (2 * self.heads):
            raise UserError(
                f"--width {self.width} must be a multiple of twice --heads ({self.heads}): rotary positions turn pairs."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Artifacts beside the sequences, always: "sids", "embeddings"."""
        return ()

    @property
    def training_needs(self) -> tuple[str, ...]:
        """Artifacts that training needs: some may only give the values that it starts from."""
        return self.needs

    @property
    def traits(self) -> tuple[str, ...]:
        """What a table should say of the model beside its name: what makes it another kind than the published one."""
        return self.departures(dataclasses.replace(type(self)(), **self.published))

    def departures(self, published: ModelConfig) -> tuple[str, ...]:
        """What makes it another kind of model than `published`, apart from its sizes, a phrase each; what is None is as 0."""
        return tuple(
            said(name, 0 if value is None else value)
            for name, value in vars(self).items()
            if name not in SIZES and (value or None) != (getattr(published, name) or None)
        )

    @property
    def window(self) -> int:
        """Items of a training sequence: the history and the item after it, unless a masked item is part of the history."""
        return self.max_items + 1

    def least_parameters(self, items: int = 0) -> int:
        """How many parameters it has at least: those of its blocks and, where it knows items by number, of their embeddings."""
        blocks = self.layers * (4 * self.width**2 + 2 * self.width * self.mlp)
        return blocks + (0 if "sids" in self.needs else items * self.width)

    def check_horizon(self, horizon: int) -> None:
        """Refuse to learn several items ahead at a time.

        Raises:
            UserError: more than one is asked for, and the model cannot.
        """
        if horizon > 1:
            raise UserError(
                f"--horizon {horizon} means nothing to --model {self.name}, which recommends one item at a time. Leave it out."
            )

    def check_repeat_bias(self) -> None:
        """Refuse a repeat bias in a loss that does not score the whole catalogue."""
        if self.repeat_bias and self.negatives:
            raise UserError(
                "--repeat-bias scores the whole catalogue in training: leave out --negatives, or take --no-repeat-bias."
            )


def said(name: str, value: Any) -> str:
    """A field's value as a table says it: "prefix attention", "no centroids", "dropout 0.3"."""
    form = SAID.get(name)
    if form:
        return form[value] if isinstance(form, dict) else form.format(value)
    spoken = name.replace("_", " ")
    if isinstance(value, bool):
        return spoken if value else f"no {spoken}"
    return f"{spoken} {value:g}" if isinstance(value, float) else f"{spoken} {value}"
