"""What every model's configuration has. Light to import: the command line makes options of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.errors import UserError, check_finite

SMOOTHING = {"help": "Share of what a masked or next item's target counts that training spreads over all codes, or items."}
NEXT_ITEM = {"help": "Share of sequences cut at a random item, only that one masked; 0: masks anywhere, as in the papers."}
FORGET = {"help": "Share of examples (maskgr: sequences, cut to one item) whose history training takes away, for eval --guidance."}
REPEAT_BIAS = {"help": "A learnt score for items that the history holds: whether people take things again need not be found by attention."}
NEGATIVES = {"help": "Items drawn to compare an item with in training; 0: the whole catalogue."}

SIZES = ("layers", "width", "heads", "mlp", "dropout", "max_items", "decoder_layers", "dense_layer")  # what makes no other kind of model
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
        UserError: a size that is not positive, a width that the heads do not divide, a dropout outside [0, 1).
    """

    name: ClassVar[str]
    implementation: ClassVar[str]
    examples: ClassVar[str] = "sequences"
    published: ClassVar[dict[str, Any]] = {}

    layers: int = field(default=8, metadata={"help": "Transformer blocks."})
    width: int = field(default=128, metadata={"help": "Width D of the hidden states."})
    heads: int = field(default=8, metadata={"help": "Attention heads; must divide the width."})
    mlp: int = field(default=3072, metadata={"help": "Hidden width of each block's MLP."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout on embeddings and on each residual branch."})
    max_items: int = field(default=24, metadata={"help": "Items of history a model sees: the most recent ones."})

    def __post_init__(self) -> None:
        check_finite(self)
        self.check_least(layers=1, width=1, heads=1, mlp=1, max_items=1)
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width} must be a multiple of twice --heads ({self.heads}): rotary positions turn pairs.")
        self.check_shares("dropout")

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

    def check_ahead(self, ahead: int) -> None:
        """Refuse to learn several items ahead at a time.

        Raises:
            UserError: more than one is asked for, and the model cannot.
        """
        if ahead > 1:
            raise UserError(f"--next {ahead} means nothing to --model {self.name}, which recommends one item at a time. Leave it out.")

    def check_least(self, **least: float) -> None:
        """Refuse fields below a bound."""
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least {bound}.")

    def check_shares(self, *names: str) -> None:
        """Refuse fields outside [0, 1)."""
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 0 and below 1.")

    def check_between(self, low: float, high: float, *names: str) -> None:
        """Refuse fields outside [low, high]; None passes."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UserError(f"--{name.replace('_', '-')} is {value}; it must be between {low} and {high}.")

    def check_repeat_bias(self) -> None:
        """Refuse a repeat bias in a loss that does not score the whole catalogue."""
        if self.repeat_bias and self.negatives:
            raise UserError("--repeat-bias scores the whole catalogue in training: leave out --negatives, or take --no-repeat-bias.")

    def check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Refuse a field that is none of the choices."""
        if getattr(self, name) not in choices:
            raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)!r} is unknown; choose {' or '.join(choices)}.")


def said(name: str, value: Any) -> str:
    """A field's value as a table says it: "prefix attention", "no centroids", "dropout 0.3"."""
    form = SAID.get(name)
    if form:
        return form[value] if isinstance(form, dict) else form.format(value)
    spoken = name.replace("_", " ")
    if isinstance(value, bool):
        return spoken if value else f"no {spoken}"
    return f"{spoken} {value:g}" if isinstance(value, float) else f"{spoken} {value}"
