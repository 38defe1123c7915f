"""Throughput of a device: training and evaluation against the reference, and training against the device's
own rate of matrix products; uncompiled and compiled.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import decoding, training
from benchmarks.common import build_maskgr, dataset, rate, wait_for_gpu
from benchmarks.gpu.process import GIB, Conditions, Report
from maskgr_cli.allocator import keep_freed_memory
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models.nn.precision import autocast
from pipelines.models.nn.transformer import Block
from pipelines.progress import Silent
from pipelines.train.configure import configure
from pipelines.train.loop import Trainer
from pipelines.train.memory import estimate

Figures = dict[str, float | str]
EAGER = "bf16"
REFERENCE = "reference"  # at the paper's sizes, in float32
ON_CPU = {"batch_size": 512}  # the paper's 8,192 sequences a step would only make the measurement longer
LARGER = {"cuda": 8, "cpu": 1 / 16}  # batches of the reference, relative to those of the other benchmarks
DRAWN = 5  # steps whose masks are drawn to time it


@dataclass(frozen=True)
class Side:
    """Settings of a training that is measured.

    Attributes:
        precision: of matrix products.
        compiled: methods of the blocks that torch.compile compiles.
        settings: settings that replace those of the preset.
    """

    precision: str = "bf16"
    compiled: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


SIDES = {  # in this order, as far as the time suffices
    EAGER: Side(),
    "bf16, MLP compiled": Side(compiled=("transform",)),
    "bf16, 131,072 tokens a pass": Side(settings={"micro_tokens": 131_072}),
    "bf16, blocks compiled": Side(compiled=("attend", "transform")),
    "fp32": Side("fp32"),
}


def measure(conditions: Conditions, report: Report) -> None:
    """Measure training and evaluation.

    Args:
        conditions: of the part.
        report: receives "preset", "training: SIDE", "evaluation: SIDE", and "fastest", the fastest training
            in bfloat16.
    """
    keep_freed_memory()
    device, seconds, times = conditions.device, conditions.seconds, LARGER[conditions.device]
    report("preset", conditions.preset)
    measured: dict[str, Figures] = {}
    reference = training.reference(device, int(training.REFERENCE_BATCH * times))
    report(f"training: {REFERENCE}", {"sequences/s": rate(reference, seconds)})
    decoded = {"T = 1": 1, "T = H": None}
    longest = 0.0
    for name, side in SIDES.items():
        if name != EAGER and conditions.left < 2 * longest + 5:
            report(f"training: {name}", "skipped, no time left")
            continue
        began = time.monotonic()
        measured[name] = tried(conditions, side, measured.get(EAGER, {}))
        report(f"training: {name}", measured[name])
        if name == EAGER:  # the rest is worth less
            for label, nfe in decoded.items():
                report(f"evaluation: {label}", evaluation(conditions, nfe))
            slow = decoding.reference(device, int(decoding.REFERENCE_BATCH * times))
            report(f"evaluation: {REFERENCE}, 10 beams", {"users/s": rate(slow, seconds)})
        longest = max(longest, time.monotonic() - began)
    best = fastest(measured)
    report("fastest", best)
    report("summary", summary(measured, best))


def tried(conditions: Conditions, side: Side, eager: Figures) -> Figures:
    """Return `training_rate`, or the error: the compiler of another machine may fail in any way."""
    try:
        with compiled(side.compiled, conditions.device):
            return training_rate(conditions, side, eager)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
    finally:
        gc.collect()
        if conditions.device == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def compiled(names: Sequence[str], device: str) -> Iterator[None]:
    """Compile methods of all blocks while the context lasts.

    On a CPU, the graphs are traced and run without a compiler: that shows that they can be traced.

    Args:
        names: methods of `Block`.
        device: "cuda" or "cpu".
    """
    originals = {name: getattr(Block, name) for name in names}
    backend = "inductor" if device == "cuda" else "aot_eager"
    for name, method in originals.items():
        setattr(Block, name, torch.compile(method, dynamic=True, backend=backend))
    try:
        yield
    finally:
        for name, method in originals.items():
            setattr(Block, name, method)
        if originals:
            torch.compiler.reset()


def training_rate(conditions: Conditions, side: Side, eager: Figures) -> Figures:
    """Return the rate of a training.

    Args:
        conditions: of the part.
        side: the training.
        eager: figures of the same training, not compiled; empty for that training itself. A compiled block
            hides its matrix products from the counter, so that their number is taken from here.

    Returns:
        "sequences/s"; the TFLOP/s of matrix products and attention; "products alone, TFLOP/s", the rate of
        matrix products of the same shapes, and the share of it; "GFLOP/sequence"; the time of drawing masks
        on the host, as a share of a step; the share of a step during which the host is busy; the memory that
        is estimated, and on a GPU the peak.
    """
    on_cpu = ON_CPU if conditions.device == "cpu" else {}
    if conditions.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = training.trainer(conditions.preset, precision=side.precision, **side.settings, **on_cpu)
    work = training.training_steps(trainer)
    for _ in range(3 * bool(side.compiled)):  # the first steps compile their shapes
        work()
    sequence_rate = rate(work, conditions.seconds)
    work_of_one = eager.get("GFLOP/sequence")
    if not isinstance(work_of_one, float):
        with FlopCounterMode(display=False) as counter:
            sequences = work()
        work_of_one = counter.get_total_flops() / sequences / 1e9
    best = product_rate(torch.device(conditions.device), side.precision, trainer)
    achieved = work_of_one * 1e9 * sequence_rate
    figures: Figures = {
        "sequences/s": sequence_rate,
        "TFLOP/s": achieved / 1e12,
        "products alone, TFLOP/s": best / 1e12,
        "share": achieved / best,
        "GFLOP/sequence": work_of_one,
        **host_shares(trainer, sequence_rate),
    }
    figures["estimated GiB"] = estimate(trainer).total / GIB
    if conditions.device == "cuda":
        figures["peak GiB"] = torch.cuda.max_memory_allocated() / GIB
    return figures


def host_shares(trainer: Trainer, sequence_rate: float) -> Figures:
    """Return what a step costs the host, as shares of its duration: drawing the masks, and everything until
    the host could go on with the next step.
    """
    steps = itertools.islice(trainer.batches.steps(0), DRAWN)
    model, config = trainer.unwrapped_model, trainer.config
    drawing, issuing, sequences = 0.0, 0.0, 0
    for step, windows, rows in steps:
        wait_for_gpu()
        began = time.perf_counter()
        items = windows.padded(rows, trainer.batches.max_items)
        model.make_training_batch(items, np.random.default_rng(step), config.horizon)
        drawn = time.perf_counter()
        trainer.training_step(step, windows, rows)
        drawing, issuing = drawing + drawn - began, issuing + time.perf_counter() - drawn
        sequences += len(rows)
    duration = sequences / sequence_rate
    return {"masks drawn, share": drawing / duration, "host busy, share": issuing / duration}


def product_rate(device: torch.device, precision: str, trainer: Trainer) -> float:
    """Return the FLOP/s of the two matrix products of an MLP alone, on the number of tokens that a forward
    pass of the training has.
    """
    config, dtype = trainer.unwrapped_model.config, torch.float32
    if precision == "bf16" and device.type == "cuda":  # narrow blocks on a CPU run in float32
        dtype = torch.bfloat16
    shapes = (trainer.micro_tokens, config.width), (config.width, config.mlp), (config.mlp, config.width)
    x, up, down = (torch.randn(shape, device=device, dtype=dtype) for shape in shapes)

    def work() -> int:
        for _ in range(10):
            _ = (x @ up) @ down
        return 10 * 4 * x.numel() * config.mlp

    return rate(work, 1.0 if device.type == "cuda" else 0.2)


def fastest(measured: dict[str, Figures]) -> dict[str, Any]:
    """Return the fastest training in bfloat16: its side, settings, compiled methods and speed relative to the
    eager one; empty if none ran.
    """
    speeds = {
        name: figures["sequences/s"]
        for name, figures in measured.items()
        if SIDES[name].precision == "bf16" and isinstance(figures.get("sequences/s"), float)
    }
    if EAGER not in speeds:
        return {}
    name = max(speeds, key=lambda side: float(speeds[side]))
    return {
        "side": name,
        "settings": SIDES[name].settings,
        "compiled": list(SIDES[name].compiled),
        "times the eager speed": float(speeds[name]) / float(speeds[EAGER]),
    }


def summary(measured: dict[str, Figures], best: dict[str, Any]) -> str:
    """Return the main figures in a line."""
    if not best:
        return f"no training ran: {measured[EAGER].get('error')}"
    figures = measured[best["side"]]
    return (
        f"{figures['sequences/s']:,.0f} sequences/s, {100 * float(figures['share']):.1f}% of products alone "
        f"({best['side']})"
    )


def evaluation(conditions: Conditions, nfe: int | None) -> Figures:
    """Measure the time to recommend to test users with 20 beams, from an untrained model.

    Args:
        conditions: of the part.
        nfe: T; None for one function evaluation per digit.
    """
    data, sids = dataset()
    device = torch.device(conditions.device)
    catalogue, everyone = load_catalogue(data, sids), histories(load_sequences(data.sequences), "test")
    test = everyone.sample(conditions.users or len(everyone), 0)
    _, schedule = configure("maskgr", conditions.preset, {})
    model = build_maskgr(conditions.preset, {}, catalogue).to(device).eval()
    search = partial(
        recommend,
        model,
        index=PartialIndex(catalogue.require_sids(), catalogue.codes),
        decoding=Decoding(nfe=nfe),
        progress=Silent(),
    )
    with autocast(schedule.precision, device):
        search(test.sample(64, 0))
        began = time.perf_counter()
        search(test)
    seconds = time.perf_counter() - began
    return {"users": len(test), "seconds": seconds, "users/s": len(test) / seconds}
