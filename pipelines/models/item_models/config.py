"""Configurations of the models over item ids. Light to import: the command line makes options of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.errors import UserError
from pipelines.models.config import (
    TEMPERATURE,
    ModelConfig,
    history_dropout_option,
    label_smoothing_option,
    negatives_option,
    next_item_option,
    repeat_bias_option,
)
from pipelines.options import GIVEN, PART, SHARE, WEIGHT, check_number, option

SASREC_LOSSES = ("softmax", "gbce", "bce")
NOISE_SCHEDULES = ("linear", "cosine", "sqrt")
NOISE_SCHEDULE = option(
    f"Schedule of the Gaussian noise: {', '.join(NOISE_SCHEDULES)}.", choices=NOISE_SCHEDULES
)
TIMESTEPS = (1, 100_000)


@dataclass(frozen=True)
class SASRecConfig(ModelConfig):
    """Configuration of SASRec (Kang and McAuley 2018, arXiv 1808.09781).

    Raises:
        UserError: see `ModelConfig`; `--loss gbce` without negatives.
    """

    name: ClassVar[str] = "sasrec"
    implementation: ClassVar[str] = "pipelines.models.item_models.sasrec:SASRec"
    published: ClassVar[dict[str, Any]] = {"loss": "bce"}

    loss: str = field(
        default="softmax",
        metadata=option(
            "Loss: softmax over the catalogue, gbce (binary, calibrated for its many negatives), or bce "
            "(binary with one negative, as published).",
            choices=SASREC_LOSSES,
        ),
    )
    label_smoothing: float = field(default=0.0, metadata=label_smoothing_option({"loss": ("softmax",)}))
    repeat_bias: bool = field(default=False, metadata=repeat_bias_option({"loss": ("softmax",)}))
    negatives: int = field(default=0, metadata=negatives_option({"loss": ("softmax", "gbce")}))
    calibration: float = field(
        default=0.75, metadata=option("Calibration t of gbce: 0 for none, 1 for full calibration.", *SHARE)
    )

    @property
    def compares_with_all(self) -> bool:
        return self.loss == "softmax" and not self.negatives

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "gbce" and not self.negatives:
            raise UserError("--loss gbce needs --negatives; the authors use 256.")

    def logits(self, items: int, columns: int) -> int:
        """Return the number of logits of a target; see `ModelConfig.logits`."""
        return 2 if self.loss == "bce" else super().logits(items, columns)


@dataclass(frozen=True)
class BSARecConfig(SASRecConfig):
    """Configuration of BSARec (Shin et al. 2024, arXiv 2312.10325). The defaults are those for Beauty.

    Raises:
        UserError: see `SASRecConfig`; an even number of frequencies.
    """

    name: ClassVar[str] = "bsarec"
    implementation: ClassVar[str] = "pipelines.models.item_models.bsarec:BSARec"
    examples: ClassVar[str] = "prefixes"
    published: ClassVar[dict[str, Any]] = {}

    filter_share: float = field(
        default=0.7,
        metadata=option("Share α of the frequency filter in a block; the rest is attention's.", *SHARE),
    )
    low_frequencies: int = field(
        default=5,
        metadata=option(
            "Number c of lowest frequencies that the filter leaves as they are, an odd number: 0, and pairs "
            "of one with either sign.",
            1,
            9999,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low_frequencies % 2 == 0:
            raise UserError(
                f"--low-frequencies {self.low_frequencies} must be odd: frequency 0, and pairs of one with "
                "either sign."
            )


@dataclass(frozen=True)
class ClozeConfig(ModelConfig):
    """Configuration that the models of masked item ids share."""

    label_smoothing: float = field(default=0.0, metadata=label_smoothing_option())
    repeat_bias: bool = field(default=False, metadata=repeat_bias_option())
    negatives: int = field(default=0, metadata=negatives_option())
    next_item: float = field(default=0.0, metadata=next_item_option())

    @property
    def compares_with_all(self) -> bool:
        return not self.negatives


@dataclass(frozen=True)
class BERT4RecConfig(ClozeConfig):
    """Configuration of BERT4Rec (Sun et al. 2019, arXiv 1904.06690)."""

    name: ClassVar[str] = "bert4rec"
    implementation: ClassVar[str] = "pipelines.models.item_models.bert4rec:BERT4Rec"

    mask_ratio: float = field(
        default=0.2, metadata=option("Share ρ of the items that is masked.", 0.001, 1.0)
    )


@dataclass(frozen=True)
class MaskGRItemsConfig(ClozeConfig):
    """Configuration of MaskGR over item ids instead of semantic IDs (arXiv 2511.23021, table 2)."""

    name: ClassVar[str] = "maskgr-items"
    implementation: ClassVar[str] = "pipelines.models.item_models.maskgr_items:MaskGRItems"


@dataclass(frozen=True)
class CooccurrenceConfig(ModelConfig):
    """Configuration of the co-occurrence of items, a reference without learning.

    `max_items` is the number of items whose neighbors are added up.
    """

    name: ClassVar[str] = "cooccurrence"
    implementation: ClassVar[str] = "pipelines.models.item_models.cooccurrence:Cooccurrence"
    is_counted: ClassVar[bool] = True

    reach: int = field(
        default=5,
        metadata=option("Largest distance of two items of a sequence that are counted as a pair.", 1, 20),
    )
    backward: float = field(
        default=0.1,
        metadata=option("Weight of the items before an item, relative to those after it.", *SHARE),
    )
    recency: float = field(
        default=0.5,
        metadata=option("Weight of an item of the history, relative to the item after it.", 0.01, 1.0),
    )
    popularity: float = field(
        default=0.1,
        metadata=option(
            "Share of the probability that follows the popularity of items, so that every item has some.",
            1e-6,
            1.0,
        ),
    )


@dataclass(frozen=True)
class DiffusionConfig(ModelConfig):
    """Configuration that the models with Gaussian diffusion of item embeddings share."""

    timesteps: int = field(
        default=1000, metadata=option("Number of steps of the Gaussian diffusion.", *TIMESTEPS)
    )
    noise_schedule: str = field(default="linear", metadata=NOISE_SCHEDULE)


@dataclass(frozen=True)
class DreamRecConfig(DiffusionConfig):
    """Configuration of DreamRec (Yang et al. 2023, arXiv 2310.20453)."""

    name: ClassVar[str] = "dreamrec"
    implementation: ClassVar[str] = "pipelines.models.item_models.dreamrec:DreamRec"

    history_dropout: float = field(default=0.1, metadata=history_dropout_option())
    ranking: float = field(
        default=0.0,
        metadata=option(
            "Weight of a cross-entropy over the catalogue, beside the squared error; 0: none, as published.",
            *WEIGHT,
        ),
    )
    vector_length: float = field(
        default=0.0,
        metadata=option(
            "Length of item vectors, where noise has √width; 0: learned, as published.",
            *WEIGHT,
        ),
    )
    residual: bool = field(
        default=False,
        metadata=option(
            "Add the guidance, scaled to the length of the vectors, to the prediction of the MLP."
        ),
    )
    repeat_bias: bool = field(default=False, metadata=repeat_bias_option({"ranking": GIVEN}))

    def logits(self, items: int, columns: int) -> int:
        """Return the number of logits of a target; see `ModelConfig.logits`."""
        return items if self.ranking else 0


@dataclass(frozen=True)
class CaDiRecConfig(SASRecConfig, DiffusionConfig):
    """Configuration of CaDiRec (Cui et al. 2024, arXiv 2405.09369).

    Raises:
        UserError: see `SASRecConfig`; more steps of the reverse process than of the diffusion.
    """

    name: ClassVar[str] = "cadirec"
    implementation: ClassVar[str] = "pipelines.models.item_models.cadirec:CaDiRec"

    noise_schedule: str = field(default="sqrt", metadata=NOISE_SCHEDULE)
    replaced: float = field(
        default=0.1,
        metadata=option(
            "Share of a sequence's items that a view replaces, and that the diffusion loss noises.", *PART
        ),
    )
    sampling_steps: int = field(
        default=5, metadata=option("Steps of the reverse process that generates replacements.", *TIMESTEPS)
    )
    contrastive: float = field(default=0.1, metadata=option("Weight of the contrastive loss.", *WEIGHT))
    denoising: float = field(default=0.2, metadata=option("Weight of the diffusion loss.", *WEIGHT))
    temperature: float = field(
        default=1.0,
        metadata=option("Temperature of the contrastive loss, the divisor of dot products.", *TEMPERATURE),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("--sampling-steps", self.sampling_steps, 1, self.timesteps)
