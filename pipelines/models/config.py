"""The shape of each model and what it learns from. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from pipelines.errors import UserError

ATTENTION = ("full", "prefix")
TOKENS = ("digit", "item")
LIKELIHOODS = ("digit", "item")
SASREC_LOSSES = ("softmax", "gbce", "bce")
NOISE_SCHEDULES = ("linear", "cosine", "sqrt")

SMOOTHING = {"help": "Share of what a masked or next item's target counts that training spreads over all codes, or items."}
NEXT_ITEM = {"help": "Share of sequences cut at a random item, only that one masked; 0: masks anywhere, as in the papers."}
FORGET = {"help": "Share of examples (maskgr: sequences, cut to one item) whose history training takes away, for eval --guidance."}
NOISE_SCHEDULE = {"help": f"How Gaussian noise grows with the steps: {', '.join(NOISE_SCHEDULES)}."}
NEGATIVES = {"help": "Items drawn to compare an item with in training; 0: the whole catalogue."}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes that every model has (defaults: the paper's, section 4.1).

    Class attributes:
        name: what `--model` calls it.
        implementation: its class, "module:Class"; imported only when a model is built.
        examples: what it trains on: "sequences", or "prefixes" where each item is a target after its history, an example each.

    Raises:
        UserError: a size that is not positive, a width that the heads do not divide, a dropout outside [0, 1).
    """

    name: ClassVar[str]
    implementation: ClassVar[str]
    examples: ClassVar[str] = "sequences"

    layers: int = field(default=8, metadata={"help": "Transformer blocks."})
    width: int = field(default=128, metadata={"help": "Width D of the hidden states."})
    heads: int = field(default=8, metadata={"help": "Attention heads; must divide the width."})
    mlp: int = field(default=3072, metadata={"help": "Hidden width of each block's MLP."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout on embeddings and on each residual branch."})
    max_items: int = field(default=24, metadata={"help": "Items of history a model sees: the most recent ones."})

    def __post_init__(self) -> None:
        self.check_least(layers=1, width=1, heads=1, mlp=1, max_items=1)
        if self.width % (2 * self.heads):
            raise UserError(f"--width {self.width} must be a multiple of twice --heads ({self.heads}): rotary positions turn pairs.")
        self.check_shares("dropout")

    @property
    def needs(self) -> tuple[str, ...]:
        """Artifacts beside the sequences: "sids", "embeddings"."""
        return ()

    @property
    def traits(self) -> tuple[str, ...]:
        """What a table should say of the model beside its name."""
        return ()

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

    def check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Refuse a field that is none of the choices."""
        if getattr(self, name) not in choices:
            raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)!r} is unknown; choose {' or '.join(choices)}.")


@dataclass(frozen=True)
class MaskGRConfig(ModelConfig):
    """Masked diffusion over semantic IDs.

    Raises:
        UserError: as `ModelConfig`; a layer that does not exist, a kind that is unknown or needs another.
    """

    name: ClassVar[str] = "maskgr"
    implementation: ClassVar[str] = "pipelines.models.maskgr:MaskGR"

    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    attention: str = field(
        default="full",
        metadata={"help": "full as in the paper, or prefix: an item sees itself and what came before, so histories are encoded once."},
    )
    tokens: str = field(default="digit", metadata={"help": "What a token is: a digit as in the paper, or an item with all its digits."})
    likelihood: str = field(
        default="digit", metadata={"help": "Of masked digits: each alone as in the paper (digit), or an item's together (item)."}
    )
    item_embeddings: bool = field(default=False, metadata={"help": "A learnt embedding for each item, beside those of its digits."})
    negatives: int = field(default=0, metadata=NEGATIVES)
    next_item: float = field(default=0.0, metadata=NEXT_ITEM)
    forget: float = field(default=0.0, metadata=FORGET)
    whole_item: float | None = field(
        default=None,
        metadata={
            "help": "Share of sequences (prefix attention: of items) whose items are masked whole. [default: 0.2 with --dense, else 0]"
        },
    )
    dense: bool = field(default=False, metadata={"help": "Dense retrieval too: item texts go in, text embeddings come out (section 3.3)."})
    dense_layer: int | None = field(
        default=None, metadata={"help": "Layer after which text embeddings are predicted. [default: half of the layers]"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("attention", ATTENTION)
        self.check_choice("tokens", TOKENS)
        self.check_choice("likelihood", LIKELIHOODS)
        needs = (
            ("--likelihood item", "--likelihood digit", self.likelihood == "item"),
            ("--item-embeddings", "--no-item-embeddings", self.item_embeddings),
        )
        for option, instead, used in needs:
            if used and self.tokens != "item":
                raise UserError(f"{option} goes with --tokens item; with --tokens {self.tokens} take {instead}.")
        if self.negatives < 0 or (self.negatives and self.likelihood != "item"):
            raise UserError(f"--negatives is {self.negatives}; it goes with --likelihood item and is at least 0.")
        self.check_shares("label_smoothing")
        self.check_between(0, 1, "next_item", "forget", "whole_item")
        if self.next_item and self.attention == "prefix":
            raise UserError("--next-item means nothing to --attention prefix, where every item is predicted from its past. Leave one out.")
        if self.dense_layer is not None and not (self.dense and 1 <= self.dense_layer <= self.layers):
            raise UserError(f"--dense-layer is {self.dense_layer}; it goes with --dense and lies between 1 and --layers ({self.layers}).")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("sids", "embeddings") if self.dense else ("sids",)

    @property
    def traits(self) -> tuple[str, ...]:
        """What makes it another than the paper's."""
        parts = (
            ("prefix attention", self.attention == "prefix"),
            ("item tokens", self.tokens == "item"),
            ("item embeddings", self.item_embeddings),
            ("joint digits", self.likelihood == "item"),
        )
        return tuple(name for name, holds in parts if holds)

    @property
    def window(self) -> int:
        return self.max_items

    def check_ahead(self, ahead: int) -> None:
        if ahead > 1 and self.attention == "prefix":
            raise UserError(f"--next {ahead} needs --attention full: prefix attention learns one item after a clean past.")
        if ahead > 1 and self.dense:
            raise UserError(f"--next {ahead} does not go with --dense: dense retrieval ranks one item ahead. Leave one out.")

    @property
    def dense_depth(self) -> int:
        """η: the layers that a text embedding is predicted from; the paper's 4 of 8 (section 4.6) where none is given."""
        return self.dense_layer or max(1, self.layers // 2)


@dataclass(frozen=True)
class SASRecConfig(ModelConfig):
    """A causal transformer over item ids (Kang and McAuley 2018, arXiv 1808.09781).

    Raises:
        UserError: as `ModelConfig`; an unknown loss, a number of negatives that does not go with it.
    """

    name: ClassVar[str] = "sasrec"
    implementation: ClassVar[str] = "pipelines.models.sasrec:SASRec"

    loss: str = field(
        default="softmax",
        metadata={"help": "softmax over the catalogue, gbce (binary, many negatives, corrected), or bce (binary, one, as published)."},
    )
    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    negatives: int = field(default=0, metadata=NEGATIVES)
    calibration: float = field(default=0.75, metadata={"help": "t of gBCE: 0 leaves its bias alone, 1 takes all of it away."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("loss", SASREC_LOSSES)
        self.check_shares("label_smoothing")
        self.check_least(negatives=0)
        self.check_between(0, 1, "calibration")
        if self.loss != "softmax" and self.label_smoothing:
            raise UserError(f"--label-smoothing goes with --loss softmax, not with --loss {self.loss}. Leave it out.")
        if self.loss == "gbce" and not self.negatives:
            raise UserError("--loss gbce needs --negatives; the authors take 256.")
        if self.loss == "bce" and self.negatives:
            raise UserError("--loss bce takes one negative, as published; leave out --negatives or take --loss gbce.")

    @property
    def traits(self) -> tuple[str, ...]:
        return (f"{self.loss} loss" + (f", {self.negatives:,} negatives" if self.negatives else ""),)


@dataclass(frozen=True)
class DiffusionConfig(ModelConfig):
    """What models that add Gaussian noise to item embeddings share.

    Raises:
        UserError: as `ModelConfig`; no steps, an unknown schedule.
    """

    timesteps: int = field(default=1000, metadata={"help": "Steps T of the Gaussian noise."})
    noise_schedule: str = field(default="linear", metadata=NOISE_SCHEDULE)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(timesteps=1)
        self.check_choice("noise_schedule", NOISE_SCHEDULES)


@dataclass(frozen=True)
class DreamRecConfig(DiffusionConfig):
    """Guided diffusion of the next item's embedding (Yang et al. 2023, arXiv 2310.20453).

    Raises:
        UserError: as `DiffusionConfig`; a share outside [0, 1), a negative weight.
    """

    name: ClassVar[str] = "dreamrec"
    implementation: ClassVar[str] = "pipelines.models.dreamrec:DreamRec"

    forget: float = field(default=0.1, metadata=FORGET)
    ranking: float = field(
        default=0.0, metadata={"help": "Weight of a cross-entropy over the catalogue on the predicted embedding; 0: none, as published."}
    )
    vector_length: float = field(
        default=0.0, metadata={"help": "Length of items' vectors, where noise has √width; 0: as they are learnt from there, as published."}
    )
    residual: bool = field(default=False, metadata={"help": "Add the guidance to the MLP's prediction, scaled to the vectors' length."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_shares("forget")
        self.check_least(ranking=0, vector_length=0)

    @property
    def traits(self) -> tuple[str, ...]:
        parts = (
            (f"cross-entropy {self.ranking:g}", self.ranking),
            (f"vectors {self.vector_length:g} long", self.vector_length),
            ("residual", self.residual),
        )
        return (f"{self.timesteps:,} {self.noise_schedule} steps", *(name for name, holds in parts if holds))


@dataclass(frozen=True)
class CaDiRecConfig(SASRecConfig, DiffusionConfig):
    """SASRec with a contrast of views that diffusion makes (Cui et al. 2024, arXiv 2405.09369).

    Raises:
        UserError: as `SASRecConfig` and `DiffusionConfig`; a share, a weight or a number of steps out of range.
    """

    name: ClassVar[str] = "cadirec"
    implementation: ClassVar[str] = "pipelines.models.cadirec:CaDiRec"

    noise_schedule: str = field(default="sqrt", metadata=NOISE_SCHEDULE)
    replaced: float = field(
        default=0.1, metadata={"help": "Share of a sequence's items that a view replaces, and that the diffusion learns."}
    )
    sampling_steps: int = field(default=5, metadata={"help": "Steps of the reverse process that generates replacements."})
    contrastive: float = field(default=0.1, metadata={"help": "Weight of the contrastive loss."})
    denoising: float = field(default=0.2, metadata={"help": "Weight of the diffusion loss."})
    temperature: float = field(default=1.0, metadata={"help": "What products of representations are divided by in the contrastive loss."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_shares("replaced")
        self.check_least(contrastive=0, denoising=0)
        self.check_between(1, self.timesteps, "sampling_steps")
        if self.temperature <= 0:
            raise UserError(f"--temperature is {self.temperature}; it must be above 0.")


@dataclass(frozen=True)
class ClozeConfig(ModelConfig):
    """What models that fill in masked item ids share.

    Raises:
        UserError: as `ModelConfig`; a share outside [0, 1].
    """

    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    negatives: int = field(default=0, metadata=NEGATIVES)
    next_item: float = field(default=0.0, metadata=NEXT_ITEM)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_shares("label_smoothing")
        self.check_least(negatives=0)
        self.check_between(0, 1, "next_item")


@dataclass(frozen=True)
class BERT4RecConfig(ClozeConfig):
    """A bidirectional transformer over item ids, cloze at a fixed masking ratio (Sun et al. 2019, arXiv 1904.06690)."""

    name: ClassVar[str] = "bert4rec"
    implementation: ClassVar[str] = "pipelines.models.cloze:BERT4Rec"

    mask_ratio: float = field(default=0.2, metadata={"help": "Share ρ of items that the cloze masks."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mask_ratio <= 1:
            raise UserError(f"--mask-ratio is {self.mask_ratio}; it must be above 0 and at most 1.")


@dataclass(frozen=True)
class MaskGRItemsConfig(ClozeConfig):
    """MaskGR over item ids instead of semantic IDs: every masking rate t ~ U(0, 1] (table 2)."""

    name: ClassVar[str] = "maskgr-items"
    implementation: ClassVar[str] = "pipelines.models.cloze:MaskGRItems"


MODELS: dict[str, type[ModelConfig]] = {
    config.name: config for config in (MaskGRConfig, SASRecConfig, BERT4RecConfig, MaskGRItemsConfig, DreamRecConfig, CaDiRecConfig)
}


def model_config(name: str, settings: dict[str, Any]) -> ModelConfig:
    """The configuration of the model of that name.

    Raises:
        UserError: there is no model of that name, a setting is another model's, or a value is refused.
    """
    if name not in MODELS:
        raise UserError(f"--model {name!r} is unknown; choose {', '.join(MODELS)}.")
    read = {f.name for f in fields(MODELS[name])}
    for setting in settings:
        if setting not in read:
            others = ", ".join(other for other, config in MODELS.items() if setting in {f.name for f in fields(config)})
            raise UserError(f"--{setting.replace('_', '-')} means nothing to --model {name}; it goes with {others}. Leave it out.")
    return MODELS[name](**settings)
