"""Options of the models over item ids. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.errors import UserError
from pipelines.models.config import FORGET, NEGATIVES, NEXT_ITEM, REPEAT_BIAS, SMOOTHING, ModelConfig

SASREC_LOSSES = ("softmax", "gbce", "bce")
NOISE_SCHEDULES = ("linear", "cosine", "sqrt")
NOISE_SCHEDULE = {"help": f"How Gaussian noise grows with the steps: {', '.join(NOISE_SCHEDULES)}."}


@dataclass(frozen=True)
class SASRecConfig(ModelConfig):
    """A causal transformer over item ids (Kang and McAuley 2018, arXiv 1808.09781).

    Raises:
        UserError: as `ModelConfig`; an unknown loss, a number of negatives that does not go with it.
    """

    name: ClassVar[str] = "sasrec"
    implementation: ClassVar[str] = "pipelines.models.sasrec:SASRec"
    published: ClassVar[dict[str, Any]] = {"loss": "bce"}

    loss: str = field(
        default="softmax",
        metadata={"help": "softmax over the catalogue, gbce (binary, many negatives, corrected), or bce (binary, one, as published)."},
    )
    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    repeat_bias: bool = field(default=False, metadata=REPEAT_BIAS)
    negatives: int = field(default=0, metadata=NEGATIVES)
    calibration: float = field(default=0.75, metadata={"help": "t of gBCE: 0 leaves its bias alone, 1 takes all of it away."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("loss", SASREC_LOSSES)
        self.check_shares("label_smoothing")
        self.check_least(negatives=0)
        self.check_between(0, 1, "calibration")
        self.check_repeat_bias()
        if self.loss != "softmax" and self.repeat_bias:
            raise UserError(f"--repeat-bias goes with --loss softmax, not with --loss {self.loss}. Take --no-repeat-bias.")
        if self.loss != "softmax" and self.label_smoothing:
            raise UserError(f"--label-smoothing goes with --loss softmax, not with --loss {self.loss}. Leave it out.")
        if self.loss == "gbce" and not self.negatives:
            raise UserError("--loss gbce needs --negatives; the authors take 256.")
        if self.loss == "bce" and self.negatives:
            raise UserError("--loss bce takes one negative, as published; leave out --negatives or take --loss gbce.")


@dataclass(frozen=True)
class ClozeConfig(ModelConfig):
    """What models that fill in masked item ids share.

    Raises:
        UserError: as `ModelConfig`; a share outside [0, 1].
    """

    label_smoothing: float = field(default=0.0, metadata=SMOOTHING)
    repeat_bias: bool = field(default=False, metadata=REPEAT_BIAS)
    negatives: int = field(default=0, metadata=NEGATIVES)
    next_item: float = field(default=0.0, metadata=NEXT_ITEM)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_repeat_bias()
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
        UserError: as `DiffusionConfig`; a share outside [0, 1), a negative weight, a repeat bias without a ranking.
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
    repeat_bias: bool = field(default=False, metadata=REPEAT_BIAS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeat_bias and not self.ranking:
            raise UserError("--repeat-bias is learnt by the cross-entropy of --ranking. Give it a weight, or take --no-repeat-bias.")
        self.check_shares("forget")
        self.check_least(ranking=0, vector_length=0)


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
