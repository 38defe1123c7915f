"""Losses of the latest steps of a training, which stay on the device until they are read."""

from __future__ import annotations

import math

import torch
from accelerate import Accelerator
from torch import Tensor

from pipelines.errors import TrainingDiverged


class Losses:
    """Losses of the steps since the last record.

    A step does not wait for the device; reading does. All processes add and read together.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Add the loss of a step: this process's part, a scalar on its device."""
        self._losses.append(loss)

    def check(self, step: int) -> None:
        """Check that the losses are finite.

        Args:
            step: number of steps of the training so far.

        Raises:
            TrainingDiverged: A loss is not finite.
        """
        self._read(step)

    def take_mean(self, step: int) -> float:
        """Return the mean of the losses, and forget them; `step` as for `check`.

        Raises:
            TrainingDiverged: A loss is not finite.
        """
        values = self._read(step)
        self._losses.clear()
        return math.fsum(values) / len(values)

    def _read(self, step: int) -> list[float]:
        """Return the losses, averaged over the processes; `step` as for `check`."""
        if not self._losses:
            return []
        values: list[float] = self._accelerator.reduce(torch.stack(self._losses), "mean").tolist()
        for number, value in enumerate(values, start=step - len(values) + 1):
            if not math.isfinite(value):
                raise TrainingDiverged(f"the loss or its gradient is not finite at step {number}")
        return values
