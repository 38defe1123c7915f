"""Training sequences/s at the paper's sizes on Beauty: maskgr against the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.common import compare, dataset, items_first
from benchmarks.reference import ReferenceModel, reference_training_step
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import training
from pipelines.models import loading
from pipelines.train.accelerator import start_accelerate
from pipelines.train.batches import Batches
from pipelines.train.configure import configure
from pipelines.train.loop import Trainer

SEQUENCES = 512  # per step of maskgr; the paper's 8,192 would only make the measurement longer
REFERENCE_BATCH = 64  # sequences in one forward pass, so that the reference fits any machine


def trainer(preset: str, **settings: Any) -> Trainer:
    """Return a trainer of a new model on Beauty.

    Args:
        preset: preset of `maskgr`.
        settings: settings that replace those of the preset.
    """
    data, sids = dataset()
    catalogue, sequences = load_catalogue(data, sids), load_sequences(data.sequences)
    model_settings, schedule = configure("maskgr", preset, settings)
    model = loading.build(model_settings, catalogue)
    batches = Batches(training(sequences), schedule.batch_size, model_settings.max_items, seed=0)
    return Trainer(model, batches, schedule, start_accelerate(schedule.precision))


def training_steps(trainer: Trainer) -> Callable[[], int]:
    """Return a function that does the next training step, and returns its number of sequences."""
    steps = trainer.batches.steps(0)

    def work() -> int:
        step, windows, rows = next(steps)
        trainer.training_step(step, windows, rows)
        return len(rows)

    return work


def maskgr(precision: str) -> Callable[[], int]:
    """Return a function that does a training step of maskgr, and returns its number of sequences."""
    return training_steps(trainer("paper", batch_size=SEQUENCES, precision=precision))


def reference(device: str = "cpu", batch: int = REFERENCE_BATCH) -> Callable[[], int]:
    """Return a function that does a training step of the reference, and returns its number of sequences."""
    data, sids = dataset()
    catalogue, sequences = load_catalogue(data, sids), load_sequences(data.sequences)
    batches = Batches(training(sequences), batch, 24, seed=0)
    model = ReferenceModel().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.001)
    steps = batches.steps(0)

    def work() -> int:
        _, windows, rows = next(steps)
        sids = items_first(catalogue.require_sids(), windows.padded(rows, 24))
        reference_training_step(model, optimizer, sids.to(device))
        return len(rows)

    return work


if __name__ == "__main__":
    sides: dict[str, Callable[[], Callable[[], int]]] = {
        "maskgr, auto precision": partial(maskgr, "auto"),
        "maskgr, fp32": partial(maskgr, "fp32"),
    }
    compare("training", sides, reference, unit="sequences")
