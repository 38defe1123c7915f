"""Throughput of a device: training and evaluation against the reference, and training against the device's
own rate of matrix products.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import decoding, training
from benchmarks.common import build_maskgr, dataset, rate
from maskgr_cli.allocator import keep_freed_memory
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models.nn.precision import autocast
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.progress import Silent
from pipelines.train.configure import configure
from pipelines.train.loop import Trainer

Result = TypeVar("Result")
SIDES = {"bf16": ("bf16", False), "fp32": ("fp32", False), "bf16, blocks compiled": ("bf16", True)}
ON_CPU = {"batch_size": 512}  # the paper's 8,192 sequences a step would only make the measurement longer


def measure(device: torch.device, preset: str, seconds: float, users: int) -> dict[str, Any]:
    """Measure training and evaluation, and return figures for JSON.

    Args:
        device: the device.
        preset: preset of `maskgr`.
        seconds: duration of each measurement of training.
        users: number of test users to recommend to; 0 for all.
    """
    larger = 8 if device.type == "cuda" else 1  # batches of the reference
    trained: dict[str, Any] = {}
    for side, (precision, compiled) in SIDES.items():
        try:
            trained[side] = in_new_process(training_rate, device, preset, precision, compiled, seconds)
        except Exception as error:  # the compiler of another machine may fail in any way
            trained[side] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    trained["reference, the paper's sizes"] = {
        "sequences/s": rate(training.reference(device.type, training.REFERENCE_BATCH * larger), seconds)
    }
    decoded = {name: evaluation(device, preset, nfe, users) for name, nfe in (("T = H", None), ("T = 1", 1))}
    decoded["reference, the paper's sizes, 10 beams"] = {
        "users/s": rate(decoding.reference(device.type, decoding.REFERENCE_BATCH * larger), seconds)
    }
    return {"preset": preset, "training": trained, "evaluation": decoded}


def in_new_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a process of its own, and return its result.

    Accelerate supports one precision per process, and the memory of the device is free at the start.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def training_rate(
    device: torch.device, preset: str, precision: str, compiled: bool, seconds: float
) -> dict[str, float | None]:
    """Return sequences/s, the FLOP/s of matrix products and attention, and their share of the rate of matrix
    products alone.

    Args:
        device: the device.
        preset: preset of `maskgr`.
        precision: "fp32" or "bf16".
        compiled: if true, the blocks of the transformer are compiled.
        seconds: duration of the measurement.
    """
    keep_freed_memory()
    trainer = training.trainer(preset, precision=precision, **(ON_CPU if device.type == "cpu" else {}))
    if compiled:
        model = trainer.unwrapped_model
        assert isinstance(model, MaskGR)
        for block in model.encoder.blocks:
            for name in ("attend", "transform"):
                setattr(block, name, torch.compile(getattr(block, name), dynamic=True))
    work = training.training_steps(trainer)
    for _ in range(3 * compiled):  # the first steps compile their shapes
        work()
    sequence_rate = rate(work, seconds)
    figures: dict[str, float | None] = {"sequences/s": sequence_rate}
    if not compiled:  # a compiled block hides its matrix products from the counter
        with FlopCounterMode(display=False) as counter:
            sequences = work()
        achieved = counter.get_total_flops() / sequences * sequence_rate
        best = product_rate(device, precision, trainer)
        figures |= {
            "TFLOP/s": achieved / 1e12,
            "products alone, TFLOP/s": best / 1e12,
            "share": achieved / best,
        }
    if device.type == "cuda":
        figures["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
    return figures


def product_rate(device: torch.device, precision: str, trainer: Trainer) -> float:
    """Return the FLOP/s of the two matrix products of an MLP alone, on the number of tokens that a forward
    pass of the training has.
    """
    config, dtype = trainer.unwrapped_model.config, torch.bfloat16 if precision == "bf16" else torch.float32
    shapes = (trainer.micro_tokens, config.width), (config.width, config.mlp), (config.mlp, config.width)
    x, up, down = (torch.randn(shape, device=device, dtype=dtype) for shape in shapes)

    def work() -> int:
        for _ in range(10):
            _ = (x @ up) @ down
        return 10 * 4 * x.numel() * config.mlp

    return rate(work, 1.0)


def evaluation(device: torch.device, preset: str, nfe: int | None, users: int) -> dict[str, float]:
    """Measure the time to recommend to test users with 20 beams, from an untrained model.

    Args:
        device: the device.
        preset: preset of `maskgr`.
        nfe: T; None for one function evaluation per digit.
        users: number of test users; 0 for all.
    """
    data, sids = dataset()
    catalogue, everyone = load_catalogue(data, sids), histories(load_sequences(data.sequences), "test")
    test = everyone.sample(users or len(everyone), 0)
    _, schedule = configure("maskgr", preset, {})
    model = build_maskgr(preset, {}, catalogue).to(device).eval()
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
