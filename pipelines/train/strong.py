"""The preset `strong`: teachers, which are trained first, and the student that learns from them.

Light to import.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.models.config import SIZES
from pipelines.models.registry import model_class
from pipelines.train.config import TrainConfig, unread_options
from pipelines.train.presets import preset
from pipelines.train.presets.maskgr import STRONG

PASSES = 10  # of a teacher over the windows of the data; more make one `small` worse (docs/results.md)
LEAST_STEPS = 400  # of a teacher, with smaller batches if need be
LEAST_BATCH = 32
LONG = 200  # items of a window where a user has more interactions than the preset's windows, on average
ALONE = {"item_embeddings": False, "width": 128}  # of a teacher with semantic IDs alone
DISTILLATION = {"distill", "teacher_share", "teacher_items"}  # options of the student alone
SHARED = {field.name for field in dataclasses.fields(TrainConfig)} - DISTILLATION | SIZES | {"negatives"}


@dataclass(frozen=True)
class Teacher:
    """A teacher of the preset `strong`: its preset is `small`.

    Attributes:
        model: name of the model.
        seed: number that is added to the seed of the student.
        alone: true for semantic IDs alone, without item embeddings, with codes by the number of items.
        levels: factor by which its semantic IDs have more levels than those of the student.
    """

    model: str = "maskgr"
    seed: int = 0
    alone: bool = False
    levels: int = 1

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that the teacher takes from those of a student.

        These are the options of the training and the sizes, as far as its model reads them. Options that make
        another kind of model are the student's alone; those of `ALONE` are the teacher's.

        Args:
            given: settings of the student, without those of its preset.
        """
        model = model_class(self.model)
        unread = unread_options(model)
        fields = {field.name for config in (model, TrainConfig) for field in dataclasses.fields(config)}
        values = {name: given[name] for name in given if name in SHARED & fields - unread}
        return (ALONE if self.alone else {}) | values | {"seed": given.get("seed", 0) + self.seed}


# Two kinds of item vectors, three kinds of semantic IDs, and counts: a committee is better than each of its
# members, the more they differ (docs/results.md).
TEACHERS = (
    Teacher(),
    Teacher(seed=1, alone=True),
    Teacher(seed=2),
    Teacher(seed=3, alone=True, levels=2),
    Teacher("cooccurrence"),
)


def trains_teachers(name: str, given: Mapping[str, Any]) -> bool:
    """Return True if a training has teachers that are trained first.

    Args:
        name: name of its preset.
        given: settings of the user, who may name teachers that exist.
    """
    return name == STRONG and not given.get("distill")


def chosen_by_data(
    model: str, name: str, given: Mapping[str, Any], users: int, interactions: int
) -> dict[str, int]:
    """Return the options of the training that suit a data set, where the user has not chosen them.

    Windows are longer where histories are. A teacher passes `PASSES` times over the data; where that takes
    fewer than `LEAST_STEPS` steps, its batches are halved. The student has as many more passes as its preset
    has more steps.

    Args:
        model: name of the model.
        name: name of the preset: "small" for a teacher, "strong" for the student.
        given: settings of the user.
        users: number of users.
        interactions: number of interactions.

    Returns:
        The values of the options that differ from the preset's.
    """
    if model_class(model).is_counted:
        return {}
    values, small = {**preset(model, name), **given}, preset(model, "small")
    longest = values["max_items"]
    if "max_items" not in given and interactions > longest * users:
        longest = LONG
    windows = max(users, interactions / longest)
    size, longer = values["batch_size"], preset(model, name)["steps"] / small["steps"]
    while "batch_size" not in given and size > LEAST_BATCH and PASSES * windows < LEAST_STEPS * size:
        size //= 2
    steps = max(LEAST_STEPS, math.ceil(PASSES * windows / size / 100) * 100)
    chosen = {"max_items": longest, "batch_size": size, "steps": round(longer * steps)}
    if {"steps", "minutes"} & given.keys():
        del chosen["steps"]
    return {name: value for name, value in chosen.items() if value != values[name]}
