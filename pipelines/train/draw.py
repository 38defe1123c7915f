"""The random parts of a step, which all processes draw alike: they depend on the seed and the step alone."""

from __future__ import annotations

import numpy as np

from pipelines.data.sequences import Sequences
from pipelines.models.base import Recommender
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.train.batches import Windows
from pipelines.train.config import TrainConfig


def draw(
    model: Recommender, config: TrainConfig, windows: Windows, rows: np.ndarray, step: int, max_items: int
) -> tuple[tuple[np.ndarray, ...], float, SoftTargets | None]:
    """Draw the batch of a step.

    Args:
        model: the model, which draws masks or negatives.
        config: of the training.
        windows: windows of the epoch.
        rows: rows of the windows that the step trains on, over all processes, int64 [B].
        step: number of the step.
        max_items: n, number of items of a row.

    Returns:
        Arguments of the model's `forward`, [B, n, …] each (items first); the sum of the weights of the whole
        step; and the soft targets of the items, None without teachers.
    """
    items = windows.padded(rows, max_items)  # [B, n]
    rng = np.random.default_rng([config.seed, 1, step])
    soft, drawn = windows.soft, items
    if soft is not None:  # a batch of indices tells where the model moves the items
        drawn = np.where(items >= 0, np.arange(items.size).reshape(items.shape), -1)
    batch = model.make_training_batch(drawn, rng, config.horizon)
    normalizer = float(batch[1].sum(dtype=np.float64)) or 1.0
    if soft is not None:
        places = Sequences(soft.places, windows.offsets).padded(rows, max_items)
        items, places = (np.where(batch[0] >= 0, array.ravel()[batch[0]], -1) for array in (items, places))
        batch, soft = (items, *batch[1:]), soft.at(places)
    if model.uses_user_ids:
        batch = (*batch, windows.users[rows, None])
    return batch, normalizer, soft
