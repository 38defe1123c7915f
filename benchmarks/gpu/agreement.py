"""What a device must have in common with the CPU: losses, gradients, recommendations; and that nothing waits for it."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.data.sequences import Sequences
from pipelines.data.splits import histories, training
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models import loading
from pipelines.models.nn.precision import autocast
from pipelines.models.sid_models.config import ATTENTION, LIKELIHOODS, TOKENS, MaskGRConfig
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.progress import Silent
from pipelines.train.batches import Batches
from pipelines.train.config import TrainConfig
from pipelines.train.loop import Trainer
from pipelines.train.run import start_accelerate

N, H, V = 500, 4, 16
EXACT, ROUNDED = 2e-4, 2e-2  # relative differences that float32 and bfloat16 may make
KINDS = [
    kind for kind in itertools.product(ATTENTION, TOKENS, LIKELIHOODS) if kind != (kind[0], "digit", "item")
]


@dataclass(frozen=True)
class Check:
    """One thing that was checked: how far off it is, and how far it may be."""

    name: str
    off: float
    allowed: float
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return self.off <= self.allowed


def checks(device: torch.device) -> Iterator[Check]:
    """Every kind of model on the device against the same on the CPU."""
    for attention, tokens, likelihood in KINDS:
        model = build(attention, tokens, likelihood)
        name = f"{attention} attention, {tokens} tokens, {likelihood} likelihood"
        yield from _losses(name, model, device)
        yield from _recommendations(name, model, device)
    if device.type == "cuda":
        yield from (_waits(*kind, device) for kind in KINDS)


def build(attention: str, tokens: str, likelihood: str) -> MaskGR:
    """A small random model over a random catalogue."""
    torch.manual_seed(0)
    config = MaskGRConfig(
        layers=2,
        width=64,
        heads=4,
        mlp=128,
        dropout=0.0,
        max_items=12,
        attention=attention,
        tokens=tokens,
        likelihood=likelihood,
        item_embeddings=tokens == "item",
        whole_item=0.5,
    )
    numbers = np.random.default_rng(0).choice(V**H, N, replace=False)
    return loading.build(
        config, Catalogue.of(np.stack(np.unravel_index(numbers, (V,) * H), axis=1), V)
    ).eval()


def sequences(users: int = 64) -> Sequences:
    """Random histories of 3 to 15 items."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 16, users)
    return Sequences(
        rng.integers(0, N, lengths.sum()).astype(np.int32), np.concatenate(([0], lengths.cumsum()))
    )


def _losses(name: str, model: MaskGR, device: torch.device) -> Iterator[Check]:
    items = sequences().padded(np.arange(64), 12)
    drawn = model.make_training_batch(items, np.random.default_rng(2))

    def measured(place: torch.device, precision: str) -> tuple[float, torch.Tensor]:
        twin = copy.deepcopy(model).to(place)
        with autocast(precision, place):
            loss = twin(*drawn) / drawn[1].sum()
        loss.backward()
        return loss.item(), torch.cat(
            [p.grad.flatten().float().cpu() for p in twin.parameters() if p.grad is not None]
        )

    loss, gradient = measured(torch.device("cpu"), "fp32")
    for precision, allowed in (("fp32", EXACT), ("bf16", ROUNDED)):
        other, turned = measured(device, precision)
        yield Check(f"loss, {name}, {precision}", abs(other - loss) / abs(loss), allowed)
        yield Check(
            f"gradient, {name}, {precision}",
            ((turned - gradient).norm() / gradient.norm()).item(),
            5 * allowed,
        )


def _recommendations(name: str, model: MaskGR, device: torch.device) -> Iterator[Check]:
    split = histories(sequences(), "test")
    twin = copy.deepcopy(model).to(device)
    orders = ({"unmask": "greedy"}, {"unmask": "left-to-right"}, {"unmask": "random"}, {"nfe": 1}, {"nfe": 2})
    for settings in orders:
        decoding, sids = Decoding(beams=10, **settings), model.item_digits[:-1].numpy() % V
        here, there = (recommend(m, split, PartialIndex(sids, V), decoding, Silent()) for m in (model, twin))
        off = np.abs(here.scores - there.scores).max() / np.abs(here.scores).max()
        same = (here.items == there.items).mean()
        yield Check(
            f"scores, {decoding.name}, {name}", float(off), EXACT, f"{100 * same:.1f}% of the items the same"
        )


def _waits(attention: str, tokens: str, likelihood: str, device: torch.device) -> Check:
    """How often a training step makes the host wait for the GPU, once warm: PyTorch's own count."""
    model = build(attention, tokens, likelihood)
    config = TrainConfig(steps=100, batch_size=64, optimizer="muon")
    trainer = Trainer(model, Batches(training(sequences()), 64, 12, 0), config, start_accelerate("auto"))
    steps = trainer.batches.steps(0)
    for _ in range(3):
        trainer._step(*next(steps))
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer._step(*next(steps))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    return Check(
        f"waits in a step, {attention} attention, {tokens} tokens, {likelihood} likelihood",
        len(waits),
        0,
        ", ".join(waits),
    )
