"""Options of the models over item ids. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.errors import UserError
from pipelines.models.config import (
    HISTORY_DROPOUT,
    NEGATIVES,
    NEXT_ITEM,
    REPEAT_BIAS,
    SMOOTHING,
    TEMPERATURE,
    ModelConfig,
)
from pipelines.options import PART, SHARE, WEIGHT, check_number, option

SASREC_LOSSES = ("softmax", "gbce", "bce")
NOISE_SCHEDULES = ("linear", "cosine", "sqrt")
NOISE_SCHEDULE = option(
    f"How Gaussian noise grows with the steps: {', '.join(NOISE_SCHEDULES)}.", choices=NOISE_SCHEDULES
)
TIMESTEPS = (1, 100_000)


@dataclass(frozen=True)
class SASRecConfig(ModelConfig):
    """A causal transformer over item ids (Kang and McAuley 2018, arXiv 1808.09781).

    Raises:
        UserError: as `ModelConfig`; a number of negatives that does not go with the loss.
    """

    name: ClassVar[str] = "sasrec"
    implementation: ClassVar[str] = "pipelines.models.item_models.sasrec:SASRec"
    published: ClassVar[dict[str, Any]] = {"loss": "bce"}

    loss: str = field(
        default="softmax",
        metadata=option(
            "softmax over the catalogue, gbce (binary, many negatives, corrected), or bce (binary, one, as published).",
            choices=SASREC_LOSSES,
        ),
    )
    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    repeat_bias: bool = field(default=False, metadata=REPEAT_BIAS)
    negatives: int = field(default=0, metadata=NEGATIVES)
    calibration: float = field(
        default=0.75, metadata=option("t of gBCE: 0 leaves its bias alone, 1 takes all of it away.", *SHARE)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_repeat_bias()
        if self.loss != "softmax" and self.repeat_bias:
            raise UserError(
                f"--repeat-bias goes with --loss softmax, not with --loss {self.loss}. Take --no-repeat-bias."
            )
        if self.loss != "softmax" and self.label_smoothing:
            raise UserError(
                f"--label-smoothing goes with --loss softmax, not with --loss {self.loss}. Leave it out."
            )
        if self.loss == "gbce" and not self.negatives:
            raise UserError("--loss gbce needs --negatives; the authors take 256.")
        if self.loss == "bce" and self.negatives:
            raise UserError(
                "--loss bce takes one negative, as published; leave out --negatives or take --loss gbce."
            )


@dataclass(frozen=True)
class ClozeConfig(ModelConfig):
    """What models that fill in masked item ids share.

    Raises:
        UserError: as `ModelConfig`; negatives with a repeat bias.
    """

    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    repeat_bias: bool = field(default=False, metadata=REPEAT_BIAS)
    negatives: int = field(default=0, metadata=NEGATIVES)
    next_item: float = field(default=0.0, metadata=NEXT_ITEM)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_repeat_bias()


@dataclass(frozen=True)
class BERT4RecConfig(ClozeConfig):
    """A bidirectional transformer over item ids, cloze at a fixed masking ratio (Sun et al. 2019, arXiv 1904.06690)."""

    name: ClassVar[str] = "bert4rec"
    implementation: ClassVar[str] = "pipelines.models.item_models.bert4rec:BERT4Rec"

    mask_ratio: float = field(
        default=0.2, metadata=option("Share ρ of items that the cloze masks.", 0.001, 1.0)
    )


@dataclass(frozen=True)
class MaskGRItemsConfig(ClozeConfig):
    """MaskGR over item ids instead of semantic IDs: every masking rate t ~ U(0, 1] (table 2)."""

    name: ClassVar[str] = "maskgr-items"
    implementation: ClassVar[str] = "pipelines.models.item_models.bert4rec:MaskGRItems"


@dataclass(frozen=True)
class DiffusionConfig(ModelConfig):
    """What models that add Gaussian noise to item embeddings share."""

    timesteps: int = field(default=1000, metadata=option("Steps T of the Gaussian noise.", *TIMESTEPS))
    noise_schedule: str = field(default="linear", metadata=NOISE_SCHEDULE)


@dataclass(frozen=True)
class DreamRecConfig(DiffusionConfig):
    """Guided diffusion of the next item's embedding (Yang et al. 2023, arXiv 2310.20453).

    Raises:
        UserError: as `ModelConfig`; a repeat bias without a ranking.
    """

    name: ClassVar[str] = "dreamrec"
    implementation: ClassVar[str] = "pipelines.models.item_models.dreamrec:DreamRec"

    history_dropout: float = field(default=0.1, metadata=HISTORY_DROPOUT)
    ranking: float = field(
        default=0.0,
        metadata=option(
            "Weight of a cross-entropy over the catalogue on the predicted embedding; 0: none, as published.",
            *WEIGHT,
        ),
    )
    vector_length: float = field(
        default=0.0,
        metadata=option(
            "Length of items' vectors, where noise has √width; 0: as they are learnt from there, as published.",
            *WEIGHT,
        ),
    )
    residual: bool = field(
        default=False,
        metadata=option("Add the guidance to the MLP's prediction, scaled to the vectors' length."),
    )
    repeat_bias: bool = field(default=False, metadata=REPEAT_BIAS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeat_bias and not self.ranking:
            raise UserError(
                "--repeat-bias is learnt by the cross-entropy of --ranking. Give it a weight, or take --no-repeat-bias."
            )


@dataclass(frozen=True)
class CaDiRecConfig(SASRecConfig, DiffusionConfig):
    """SASRec with a contrast of views that diffusion makes (Cui et al. 2024, arXiv 2405.09369).

    Raises:
        UserError: as `SASRecConfig`; more steps of the reverse process than of the noise.
    """

    name: ClassVar[str] = "cadirec"
    implementation: ClassVar[str] = "pipelines.models.item_models.cadirec:CaDiRec"

    noise_schedule: str = field(default="sqrt", metadata=NOISE_SCHEDULE)
    replaced: float = field(
        default=0.1,
        metadata=option(
            "Share of a sequence's items that a view replaces, and that the diffusion learns.", *PART
        ),
    )
    sampling_steps: int = field(
        default=5, metadata=option("Steps of the reverse process that generates replacements.", *TIMESTEPS)
    )
    contrastive: float = field(default=0.1, metadata=option("Weight of the contrastive loss.", *WEIGHT))
    denoising: float = field(default=0.2, metadata=option("Weight of the diffusion loss.", *WEIGHT))
    temperature: float = field(
        default=1.0,
        metadata=option(
            "What products of representations are divided by in the contrastive loss.", *TEMPERATURE
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("--sampling-steps", self.sampling_steps, 1, self.timesteps)
