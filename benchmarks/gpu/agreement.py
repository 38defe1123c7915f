"""Agreement of a device with the CPU: losses, gradients and recommendations; and waits for the device in a
training step.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
from pipelines.train.accelerator import start_accelerate
from pipelines.train.batches import Batches
from pipelines.train.config import TrainConfig
from pipelines.train.loop import Trainer

N, H, V = 500, 4, 16
EXACT, ROUNDED = 2e-4, 2e-2  # allowed relative differences in float32 and bfloat16
KINDS = [
    kind for kind in itertools.product(ATTENTION, TOKENS, LIKELIHOODS) if kind != (kind[0], "digit", "item")
]


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        name: name of the check.
        off: difference from the CPU, or number of waits.
        allowed: largest allowed value of `off`.
        detail: further text for the reader.
    """

    name: str
    off: float
    allowed: float
    detail: str = ""

    @property
    def passed(self) -> bool:
        """True if the difference is allowed."""
        return self.off <= self.allowed


def checks(device: torch.device) -> Iterator[Check]:
    """Compare every kind of model on the device with the same model on the CPU."""
    for attention, tokens, likelihood in KINDS:
        model = build(attention, tokens, likelihood)
        name = f"{attention} attention, {tokens} tokens, {likelihood} likelihood"
        yield from _losses(name, model, device)
        yield from _recommendations(name, model, device)
    if device.type == "cuda":
        yield from (count_waits(*kind, device) for kind in KINDS)


def build(attention: str, tokens: str, likelihood: str) -> MaskGR:
    """Return a small random model over a random catalogue."""
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
    sids = np.stack(np.unravel_index(numbers, (V,) * H), axis=1)
    model = loading.build(config, Catalogue.of(sids, V)).eval()
    assert isinstance(model, MaskGR)
    return model


def sequences(users: int = 64) -> Sequences:
    """Return random histories of 3 to 15 items."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 16, users)
    return Sequences(
        rng.integers(0, N, lengths.sum()).astype(np.int32), np.concatenate(([0], lengths.cumsum()))
    )


def _losses(name: str, model: MaskGR, device: torch.device) -> Iterator[Check]:
    items = sequences().padded(np.arange(64), 12)
    batch = model.make_training_batch(items, np.random.default_rng(2))

    def loss_and_gradient(place: torch.device, precision: str) -> tuple[float, torch.Tensor]:
        copied = copy.deepcopy(model).to(place)
        with autocast(precision, place):
            loss = copied(*batch) / batch[1].sum()
        loss.backward()
        gradients = [p.grad.flatten().float().cpu() for p in copied.parameters() if p.grad is not None]
        return loss.item(), torch.cat(gradients)

    loss, gradient = loss_and_gradient(torch.device("cpu"), "fp32")
    for precision, allowed in (("fp32", EXACT), ("bf16", ROUNDED)):
        other_loss, other_gradient = loss_and_gradient(device, precision)
        yield Check(f"loss, {name}, {precision}", abs(other_loss - loss) / abs(loss), allowed)
        off = ((other_gradient - gradient).norm() / gradient.norm()).item()
        yield Check(f"gradient, {name}, {precision}", off, 5 * allowed)


def _recommendations(name: str, model: MaskGR, device: torch.device) -> Iterator[Check]:
    split = histories(sequences(), "test")
    copied = copy.deepcopy(model).to(device)
    settings: tuple[dict[str, Any], ...]
    settings = (
        {"unmask": "greedy"},
        {"unmask": "left-to-right"},
        {"unmask": "random"},
        {"nfe": 1},
        {"nfe": 2},
    )
    sids = model.embedding.sids.numpy()
    for fields in settings:
        decoding = Decoding(beams=10, **fields)
        results = [recommend(m, split, PartialIndex(sids, V), decoding, Silent()) for m in (model, copied)]
        expected, other = results
        off = np.abs(expected.scores - other.scores).max() / np.abs(expected.scores).max()
        detail = f"{100 * (expected.items == other.items).mean():.1f}% of the items the same"
        yield Check(f"scores, {decoding.name}, {name}", float(off), EXACT, detail)


def count_waits(attention: str, tokens: str, likelihood: str, device: torch.device) -> Check:
    """Count how often a training step makes the host wait for the GPU, by PyTorch's own warnings, after a few
    steps that warm up.
    """
    model = build(attention, tokens, likelihood)
    config = TrainConfig(steps=100, batch_size=64, optimizer="muon")
    trainer = Trainer(model, Batches(training(sequences()), 64, 12, 0), config, start_accelerate("auto"))
    steps = trainer.batches.steps(0)
    for _ in range(3):
        trainer.training_step(*next(steps))
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.training_step(*next(steps))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    name = f"waits in a step, {attention} attention, {tokens} tokens, {likelihood} likelihood"
    return Check(name, len(waits), 0, ", ".join(waits))
