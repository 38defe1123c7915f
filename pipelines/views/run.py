"""What there is to see of a run: its curves, and where its settings differ from its preset."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from pipelines import artifacts
from pipelines.models.registry import MODELS, model_config
from pipelines.options import flag_of
from pipelines.train.config import TrainConfig
from pipelines.train.configure import SCHEDULE, effective_values
from pipelines.train.presets import preset_names
from pipelines.workspace import Run, RunConfig

MEASURES = ("loss", "recall@10", "learning_rate")  # of history.parquet that are curves


@dataclass(frozen=True)
class Curve:
    """Values of a measure during a training.

    Attributes:
        measure: one of `MEASURES`.
        steps: numbers of steps, ascending.
        values: finite values after these steps; Recall@10 is a fraction.
    """

    measure: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Departure:
    """A setting of a run that is not its preset's.

    Attributes:
        option: key of the option in a configuration file, the flag without dashes.
        value: the run's value.
        preset: the preset's value.
    """

    option: str
    value: Any
    preset: Any


def curves(run: Run) -> list[Curve]:
    """Return the curves of a run, in the order of `MEASURES`; none of a run that recorded nothing.

    Raises:
        UserError: history.parquet is damaged.
    """
    if not run.history.exists():
        return []
    points: dict[str, list[tuple[int, float]]] = {measure: [] for measure in MEASURES}
    for row in artifacts.read(run.history, "history").to_pylist():
        if row["measure"] in points and math.isfinite(row["value"]):
            points[row["measure"]].append((row["step"], row["value"]))
    return [
        Curve(measure, [step for step, _ in found], [value for _, value in found])
        for measure, found in points.items()
        if found
    ]


def departures(config: RunConfig) -> list[Departure]:
    """Return the settings of model and training that are not those of the run's preset.

    Args:
        config: content of config.json, from which any key may be missing.

    Returns:
        The settings, in the order of the options; none if there is no such model or preset.
    """
    model, preset = config.get("model"), config.get("preset")
    if model not in MODELS or preset not in preset_names(model):
        return []
    values, _ = effective_values(model, preset, {}, {})
    bases = (
        model_config(model, {key: value for key, value in values.items() if key not in SCHEDULE}),
        TrainConfig(**{key: value for key, value in values.items() if key in SCHEDULE}),
    )
    own = {**(config.get("model_settings") or {}), **(config.get("train") or {})}
    return [
        Departure(flag_of(field).removeprefix("--"), own[field.name], getattr(base, field.name))
        for base in bases
        for field in dataclasses.fields(base)
        if field.name in own and own[field.name] != getattr(base, field.name)
    ]
