"""Learning rate schedule."""

from __future__ import annotations

import math

from pipelines.train.config import TrainConfig


def learning_rate(config: TrainConfig, budget_fraction: float) -> float:
    """Return the learning rate at a point of the training.

    The learning rate rises linearly during `warmup`, stays at its peak, and falls during `decay`, the end of
    the training, to `final_rate` of the peak.

    Args:
        config: hyperparameters of training.
        budget_fraction: fraction of the training that is done, 0 to 1.
    """
    if budget_fraction < config.warmup:
        return config.learning_rate * max(budget_fraction / config.warmup, 1e-2)
    decay_start = max(config.warmup, 1 - config.decay)
    decayed = max(0.0, budget_fraction - decay_start) / max(1e-9, 1 - decay_start)
    height = 1 - decayed if config.decay_shape == "linear" else (1 + math.cos(math.pi * decayed)) / 2
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * height)
