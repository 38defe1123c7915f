"""Plan of a training run: the settings that decide its result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pipelines import typed_json
from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.models.registry import model_config
from pipelines.options import has_no_effect, typed
from pipelines.train.config import TrainConfig, unread_options
from pipelines.workspace import RunConfig

OPTIONAL = ("final", "continued")  # parts of a plan that its JSON values lack where they are not set
ABSENT = {  # option of the training → value at which the JSON values lack it
    **{"cold": 0.0, "shuffle": "auto"},
    **{"distill": None, "teacher_share": 0.9, "teacher_items": 128},
}


@dataclass(frozen=True)
class Final:
    """Training on whole sequences, with the settings of a run that was validated.

    Attributes:
        of: name of that run.
        weights: sha256 of its weights.
        steps: number of steps after which the training ends: those of its best validation.
    """

    of: str
    weights: str
    steps: int


@dataclass(frozen=True)
class Continued:
    """Training that begins with the weights of a finished run.

    Attributes:
        of: name of that run.
        weights: sha256 of its weights.
        first_steps: number of steps that the budget of the first run had, from which this one descends.
        first_rate: peak learning rate of the first run.
    """

    of: str
    weights: str
    first_steps: int
    first_rate: float


@dataclass(frozen=True)
class Plan:
    """Settings that decide the result of a training run.

    Attributes:
        dataset: name of the data set.
        sids: name of the semantic IDs; None for a model that identifies items by their number.
        model: name of the model.
        preset: name of the preset that the settings are based on.
        model_settings: hyperparameters of the model.
        train: hyperparameters of training.
        final: what makes the run a final run; None for a run that is validated.
        continued: run whose weights the training begins with; None for new weights.

    Raises:
        UserError: The hyperparameters of the model and of training exclude each other.
    """

    dataset: str
    sids: str | None
    model: str
    preset: str
    model_settings: ModelConfig
    train: TrainConfig
    final: Final | None = None
    continued: Continued | None = None

    def __post_init__(self) -> None:
        self.model_settings.check_horizon(self.train.horizon)
        if self.train.windows == "last" and self.model_settings.examples == "prefixes":
            raise UserError(
                f"--windows last means nothing to --model {self.model}, where each item ends a window. "
                "Leave it out."
            )

        if self.train.distill and not self.model_settings.learns_from_teachers:
            raise has_no_effect(
                [typed("--distill", self.train.distill)],
                f"--model {self.model}",
                "which identifies items by number; a student has semantic IDs",
            )
        if self.train.cold and self.train.horizon > 1:
            raise UserError(
                f"--cold {self.train.cold:g} measures one target of a user; with --horizon "
                f"{self.train.horizon} leave it out."
            )

    @property
    def training_needs(self) -> tuple[str, ...]:
        """Artifacts that the training needs besides the sequences: "sids", "embeddings"."""
        return self.model_settings.needs if self.continued else self.model_settings.training_needs

    @property
    def name(self) -> str:
        """Default name of the run: data set, model, preset, and a digest of all settings."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
        return f"{self.dataset[:64]}-{self.model}-{self.preset}-{digest[:6]}"

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values, without parts that are not set and options that are not read."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        for name in unread_options(type(self.model_settings)) - {"steps"}:
            values["model_settings"].pop(name, None)
            values["train"].pop(name, None)
        for name, absent in ABSENT.items():
            if values["train"].get(name, absent) == absent:
                values["train"].pop(name, None)  # earlier plans do not have it
        return {key: value for key, value in values.items() if key not in OPTIONAL or value is not None}

    @staticmethod
    def from_dict(config: RunConfig) -> Plan:
        """Return the plan that `to_dict` made JSON values of; further keys are ignored.

        Raises:
            KeyError, Mismatch: A value is missing or has another type.
            UserError: A value is refused, or the run is a committee.
        """
        if "members" in config:
            names = ", ".join(member["run"] for member in config["members"])
            raise UserError(
                f"A committee is not trained, its members are ({names}). Train runs, and make a committee of "
                "them with: maskgr ensemble"
            )
        typed_json.check(config["train"], TrainConfig, "train")
        model_settings = model_config(config["model"], config["model_settings"])
        final, continued = config.get("final"), config.get("continued")
        return Plan(
            dataset=config["dataset"],
            sids=config["sids"],
            model=config["model"],
            preset=config["preset"],
            model_settings=model_settings,
            train=TrainConfig(**config["train"]),
            final=Final(**final) if final else None,
            continued=Continued(**continued) if continued else None,
        )
