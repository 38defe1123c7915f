"""The configuration that all models have. Light to import: the command line makes options of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.errors import UserError
from pipelines.options import PART, SHARE, Requirements, check, has_no_effect, option, typed

PRECISIONS = ("auto", "fp32", "bf16")
HORIZON = (1, 100)  # number of items predicted together
PASS_TOKENS = (1, 10_000_000)  # number of tokens in one forward pass
BLOCKS = (1, 256)
TEMPERATURE = (1e-6, 10_000.0)
SIZES = {  # fields that make no other kind of model
    *("layers", "width", "heads", "mlp", "dropout", "max_items", "decoder_layers", "dense_layer")
}
LABELS: dict[str, str | dict[str, str]] = {  # field → label of its value in a table
    "attention": "{} attention",
    "tokens": "{} tokens",
    "likelihood": {"item": "item softmax", "digit": "independent digits"},
    "optimizer": {"muon": "Muon", "adamw": "AdamW"},
    "loss": "{} loss",
    "negatives": "{:,} negatives",
    "ranking": "cross-entropy {:g}",
    "vector_length": "vectors of length {:g}",
    "timesteps": "{:,} timesteps",
    "noise_schedule": "{} noise",
}


def label_smoothing_option(requires: Requirements | None = None) -> dict[str, Any]:
    """Return the option of label smoothing."""
    help = "Label smoothing: share of a target that is spread over all codes, or over all items."
    return option(help, *PART, requires=requires)


def next_item_option(requires: Requirements | None = None) -> dict[str, Any]:
    """Return the option of next-item examples."""
    help = (
        "Share of sequences cut after a random item, which alone is masked; 0: masks anywhere, as in the "
        "papers."
    )
    return option(help, *SHARE, requires=requires)


def history_dropout_option() -> dict[str, Any]:
    """Return the option of training without a history."""
    help = (
        "Share of training examples without their history, for eval --guidance; of maskgr, sequences cut to "
        "one item."
    )
    return option(help, *PART)


def repeat_bias_option(requires: Requirements | None = None) -> dict[str, Any]:
    """Return the option of the repeat bias."""
    help = (
        "Repeat bias: a learned scalar × the number of times an item occurs in the history, added to its "
        "logit."
    )
    return option(help, requires=requires)


def negatives_option(requires: Requirements | None = None) -> dict[str, Any]:
    """Return the option of the number of negatives."""
    help = "Number of items drawn at random that training compares an item with; 0: the whole catalogue."
    return option(help, 0, 1_000_000, requires=requires)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a model.

    The defaults are those of MaskGR's paper (section 4.1), which names neither dropout nor the length of
    histories.

    Class attributes:
        name: name of the model for `--model`.
        published: values of the publication that differ from the defaults, of fields that make another kind
            of model.
        implementation: class of the model, "module:Class"; imported when a model is built.
        examples: training examples: "sequences", or "prefixes" where each item is the target of an example.
        learns_from_teachers: if true, the model's `forward` takes soft targets (`train --distill`).
        is_counted: if true, the model is a `CountedModel`. It has neither blocks nor steps, and their options
            are refused where a user gives them.

    Raises:
        UserError: a value is out of its bounds or lacks what it requires; the heads do not divide the width.
    """

    name: ClassVar[str]
    implementation: ClassVar[str]
    examples: ClassVar[str] = "sequences"
    learns_from_teachers: ClassVar[bool] = False
    is_counted: ClassVar[bool] = False
    published: ClassVar[dict[str, Any]] = {}

    layers: int = field(default=8, metadata=option("Number of transformer blocks.", *BLOCKS))
    width: int = field(default=128, metadata=option("Width D of the hidden states.", 1, 16_384))
    heads: int = field(
        default=8,
        metadata=option("Number of attention heads; twice the number must divide the width.", 1, 1024),
    )
    mlp: int = field(default=3072, metadata=option("Hidden width of each block's MLP.", 1, 131_072))
    dropout: float = field(
        default=0.1, metadata=option("Dropout on embeddings and on each residual branch.", *PART)
    )
    max_items: int = field(
        default=24,
        metadata=option(
            "Number of items of a history that the model sees: the most recent ones.", 1, 100_000
        ),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.width % (2 * self.heads):
            raise UserError(
                f"--width {self.width} must be a multiple of twice --heads ({self.heads}): rotary positions "
                "rotate pairs of numbers."
            )

    @classmethod
    def unread(cls) -> set[str]:
        """Return the names of the settings that the model does not read: if counted, those of blocks."""
        if not cls.is_counted:
            return set()
        return {field.name for field in dataclasses.fields(ModelConfig)} - {"max_items"}

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the model reads, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in self.unread()}

    @property
    def needs(self) -> tuple[str, ...]:
        """Artifacts that the model needs besides the sequences: "sids", "embeddings"."""
        return ()

    @property
    def scores_codes_alone(self) -> bool:
        """True if an item softmax knows an item by its semantic ID alone, so that codes must tell items
        apart.
        """
        return False

    @property
    def compares_with_all(self) -> bool:
        """True if training compares each target with all items, where `--negatives` compares with fewer."""
        return False

    @property
    def training_needs(self) -> tuple[str, ...]:
        """Artifacts that training needs; some may only give the parameters that training starts from."""
        return self.needs

    @property
    def guidable(self) -> bool:
        """True if the model is trained without histories too, as classifier-free guidance needs."""
        return bool(getattr(self, "history_dropout", 0.0))

    @property
    def dense_from(self) -> str:
        """Source of the predicted text embeddings, as descriptions name it; empty if there is none."""
        return ""

    @property
    def traits(self) -> tuple[str, ...]:
        """Labels of the values that make another kind of model than the published one."""
        return self.departures(dataclasses.replace(type(self)(), **self.published))

    def departures(self, published: ModelConfig) -> tuple[str, ...]:
        """Return the labels of the values that make another kind of model; None counts as 0."""
        return tuple(
            label(name, 0 if value is None else value)
            for name, value in vars(self).items()
            if name not in SIZES and (value or None) != (getattr(published, name) or None)
        )

    @property
    def window(self) -> int:
        """Number of items of a training sequence: the history and the next item.

        A masked item counts as a part of the history in models that mask items.
        """
        return self.max_items + 1

    def least_parameters(self, items: int = 0) -> int:
        """Return a lower bound of the number of parameters, of a model over a catalogue of N items.

        It counts the blocks and, in models over item ids, the item embeddings.
        """
        blocks = self.layers * (4 * self.width**2 + 2 * self.width * self.mlp)
        return blocks + (0 if "sids" in self.needs else items * self.width)

    def logits(self, items: int, columns: int) -> int:
        """Return the number of logits that training computes for a target, at most.

        Args:
            items: N.
            columns: H·V, the number of codes of all digits.
        """
        return columns if "sids" in self.needs else getattr(self, "negatives", 0) or items

    def check_horizon(self, horizon: int) -> None:
        """Check that the model can predict so many items together.

        Raises:
            UserError: it cannot.
        """
        if horizon > 1:
            on = f"--model {self.name}"
            raise has_no_effect([typed("--horizon", horizon)], on, "which recommends one item at a time")


def label(name: str, value: Any) -> str:
    """Return the label of a field's value in a table: "prefix attention", "no centroids", "dropout 0.3"."""
    form = LABELS.get(name)
    if form:
        return form[value] if isinstance(form, dict) else form.format(value)
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}"
