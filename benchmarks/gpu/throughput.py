"""What a device delivers: training and evaluation against the reference, and against its own best rate of matrix products."""

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
from benchmarks.common import dataset, rate
from maskgr_cli.allocator import keep_freed_memory
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models import loading
from pipelines.models.nn.precision import autocast
from pipelines.progress import Silent
from pipelines.train.configure import configure

Result = TypeVar("Result")
SIDES = {"bf16": ("bf16", False), "fp32": ("fp32", False), "bf16, blocks compiled": ("bf16", True)}
ON_CPU = {"batch_size": 512}  # the paper's 8,192 sequences a step would only make the measurement longer


def measure(device: torch.device, preset: str, seconds: float, users: int) -> dict[str, Any]:
    """Everything, as JSON values.

    Args:
        preset: sizes and steps of the model.
        seconds: of each measurement of training.
        users: how many of the test are recommended to; 0 for all.
    """
    larger = 8 if device.type == "cuda" else 1  # batches of the reference
    trained: dict[str, Any] = {}
    for side, (precision, compiled) in SIDES.items():
        try:
            trained[side] = apart(training_rate, device, preset, precision, compiled, seconds)
        except (
            Exception
        ) as error:  # the compiler of another machine may fail in any way; the rest still counts
            trained[side] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    trained["reference, the paper's sizes"] = {
        "sequences/s": rate(training.reference(device.type, training.REFERENCE_BATCH * larger), seconds)
    }
    decoded = {name: evaluation(device, preset, nfe, users) for name, nfe in (("T = H", None), ("T = 1", 1))}
    decoded["reference, the paper's sizes, 10 beams"] = {
        "users/s": rate(decoding.reference(device.type, decoding.REFERENCE_BATCH * larger), seconds)
    }
    return {"preset": preset, "training": trained, "evaluation": decoded}


def apart(function: Callable[..., Result], *given: Any) -> Result:
    """What the function returns, from a process of its own: Accelerate knows one precision a process, and memory is as at the start."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def training_rate(
    device: torch.device, preset: str, precision: str, compiled: bool, seconds: float
) -> dict[str, float | None]:
    """Sequences a second; FLOPs a second in products and attention, and their share of the best rate of such products."""
    keep_freed_memory()
    trainer = training.trainer(preset, precision=precision, **(ON_CPU if device.type == "cpu" else {}))
    if compiled:
        for block in trainer.unwrapped_model.encoder.blocks:
            block.attend, block.transform = (
                torch.compile(part, dynamic=True) for part in (block.attend, block.transform)
            )
    work = training.training_steps(trainer)
    for _ in range(3 * compiled):  # the shapes of the first steps are compiled
        work()
    found: dict[str, float | None] = {"sequences/s": rate(work, seconds)}
    if not compiled:  # a compiled block hides its products from the counter
        with FlopCounterMode(display=False) as counter:
            sequences = work()
        achieved = counter.get_total_flops() / sequences * found["sequences/s"]
        best = product_rate(device, precision, trainer)
        found |= {
            "TFLOP/s": achieved / 1e12,
            "products alone, TFLOP/s": best / 1e12,
            "share": achieved / best,
        }
    if device.type == "cuda":
        found["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
    return found


def product_rate(device: torch.device, precision: str, trainer: training.Trainer) -> float:
    """FLOPs a second of the two matrix products of an MLP, on as many tokens as training takes in a pass, and nothing else."""
    config, dtype = trainer.unwrapped_model.config, torch.bfloat16 if precision == "bf16" else torch.float32
    shapes = (trainer.micro_tokens, config.width), (config.width, config.mlp), (config.mlp, config.width)
    x, up, down = (torch.randn(shape, device=device, dtype=dtype) for shape in shapes)

    def work() -> int:
        for _ in range(10):
            _ = (x @ up) @ down
        return 10 * 4 * x.numel() * config.mlp

    return rate(work, 1.0)


def evaluation(device: torch.device, preset: str, nfe: int | None, users: int) -> dict[str, float]:
    """Time to recommend to the users of the test with 20 beams, from an untrained model."""
    data, sids = dataset()
    catalogue, test = load_catalogue(data, sids), histories(load_sequences(data.sequences), "test")
    test, (model_settings, schedule) = test.sample(users or len(test), 0), configure("maskgr", preset, {})
    model = loading.build(model_settings, catalogue).to(device).eval()
    search = partial(
        recommend,
        model,
        index=PartialIndex(catalogue.sids, catalogue.codes),
        decoding=Decoding(nfe=nfe),
        progress=Silent(),
    )
    with autocast(schedule.precision, device):
        search(test.sample(64, 0))
        began = time.perf_counter()
        search(test)
    seconds = time.perf_counter() - began
    return {"users": len(test), "seconds": seconds, "users/s": len(test) / seconds}
