"""Training sequences a second at the paper's sizes on Beauty: maskgr against the reference."""

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
from pipelines.train.batches import Batches
from pipelines.train.configure import configure
from pipelines.train.loop import Trainer
from pipelines.train.run import start_accelerate

SEQUENCES = 512  # a step's, for both sides; the paper's 8,192 would only make the measurement longer
REFERENCE_BATCH = 64  # in one pass, so that the reference fits any machine


def trainer(preset: str, **settings: Any) -> Trainer:
    """An untrained model on Beauty and what trains it."""
    data, sids = dataset()
    catalogue, sequences = load_catalogue(data, sids), load_sequences(data.sequences)
    model_settings, schedule = configure("maskgr", preset, settings)
    model = loading.build(model_settings, catalogue)
    batches = Batches(training(sequences), schedule.batch_size, model_settings.max_items, seed=0)
    return Trainer(model, batches, schedule, start_accelerate(schedule.precision))


def training_steps(trainer: Trainer) -> Callable[[], int]:
    """A step of it as work, in sequences."""
    steps = trainer.batches.steps(0)

    def work() -> int:
        step, windows, rows = next(steps)
        trainer._step(step, windows, rows)
        return len(rows)

    return work


def ours(precision: str) -> Callable[[], int]:
    return training_steps(trainer("paper", batch_size=SEQUENCES, precision=precision))


def reference(device: str = "cpu", batch: int = REFERENCE_BATCH) -> Callable[[], int]:
    data, sids = dataset()
    catalogue, sequences = load_catalogue(data, sids), load_sequences(data.sequences)
    batches = Batches(training(sequences), batch, 24, seed=0)
    model = ReferenceModel().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=0.001)
    steps = batches.steps(0)

    def work() -> int:
        _, windows, rows = next(steps)
        reference_training_step(
            model, optimizer, items_first(catalogue.sids, windows.pad(rows, 24)).to(device)
        )
        return len(rows)

    return work


if __name__ == "__main__":
    sides = {"maskgr, auto precision": partial(ours, "auto"), "maskgr, fp32": partial(ours, "fp32")}
    compare("training", sides, reference, unit="sequences")
