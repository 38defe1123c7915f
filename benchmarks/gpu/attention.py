"""Attention of packed sequences on a GPU: the present one, which pads groups of rows of similar length,
against PyTorch's FlexAttention and variable-length attention, which need no padding. One is to be kept.

Shapes: B rows, M packed tokens, A heads, D width.
"""

from __future__ import annotations

import functools
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from benchmarks.common import dataset, wait_for_gpu
from benchmarks.gpu.process import GIB, Conditions, Report
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import training
from pipelines.models.nn.attention import group_attention
from pipelines.models.nn.packing import Layout
from pipelines.models.sid_models.config import MaskGRConfig
from pipelines.train.batches import Batches, split_step
from pipelines.train.configure import configure
from pipelines.train.loop import MICRO_TOKENS

BLOCK = 128  # tokens of a block of FlexAttention's mask
ALLOWED = 2e-2  # difference from the present one in bfloat16, relative to its largest value
DIGITS = 5  # H of Beauty's semantic IDs
ROUNDS = {"cuda": 20, "cpu": 2}

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys and values [M, A, D/A] → [M, A, D/A]


@dataclass(frozen=True)
class Packed:
    """The rows of a forward pass of a training.

    Attributes:
        preset: whose sizes they have.
        heads: A.
        width: D.
        streams: 2 where each row has its items twice, clean and masked, as in prefix attention; else 1.
        per_item: P, number of tokens of an item.
        lengths: number of items of each row, longest first, int64 [B].
    """

    preset: str
    heads: int
    width: int
    streams: int
    per_item: int
    lengths: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Number of tokens of each row, int64 [B]."""
        return self.lengths * self.per_item * self.streams

    def layout(self, device: torch.device) -> Layout:
        """Return the layout of the present attention."""
        n = int(self.lengths.max())
        real = torch.arange(n) >= n - torch.as_tensor(self.lengths)[:, None]  # [B, n], padded on the left
        real = real.repeat_interleave(self.per_item, dim=1)
        if self.streams == 2:
            return Layout.two_streams(real, self.per_item, device)
        return Layout.bidirectional(real, device)


def measure(conditions: Conditions, report: Report) -> None:
    """Compare the ways of attention at the shapes of the presets on Beauty.

    Args:
        conditions: of the part.
        report: receives "PRESET: WAY" with "ms" (forward and backward), "layout ms" (what the host does for a
            forward pass), "off" and "peak GiB", or "error"; and "PRESET", the shapes.
    """
    warnings.filterwarnings("ignore", "flex_attention called without")  # on a CPU
    lines = []
    presets = dict.fromkeys((conditions.preset,) if conditions.device == "cpu" else ("small", "paper"))
    for preset in presets:
        packed = rows_of(preset, conditions.device)
        report(preset, shapes(packed))
        times = {}
        for way, prepare in WAYS.items():
            try:
                figures = compare(packed, prepare, torch.device(conditions.device))
                times[way] = figures["ms"]
            except Exception as error:  # of kernels and compilers that this machine may lack
                figures = {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
            report(f"{preset}: {way}", figures)
        lines.append(f"{preset}: " + ", ".join(f"{way} {ms:.3g} ms" for way, ms in times.items()))
    report("summary", "; ".join(lines))


def rows_of(preset: str, device: str) -> Packed:
    """Return the rows of the first forward pass of the first training step on Beauty."""
    settings, schedule = configure("maskgr", preset, {})
    assert isinstance(settings, MaskGRConfig)
    per_item = 1 if settings.tokens == "item" else DIGITS
    streams = 2 if settings.attention == "prefix" else 1
    data, _ = dataset()
    batches = Batches(
        training(load_sequences(data.sequences)), schedule.batch_size, settings.max_items, seed=0
    )
    _, windows, rows = next(batches.steps(0))
    lengths = -np.sort(-windows.lengths[rows])
    lengths = lengths[split_step(lengths, MICRO_TOKENS[device] // (per_item * streams))[0]]
    return Packed(preset, settings.heads, settings.width, streams, per_item, lengths)


def shapes(packed: Packed) -> dict[str, Any]:
    """Return what JSON should hold of the rows."""
    sizes = packed.sizes
    return {
        "rows": len(sizes),
        "tokens": int(sizes.sum()),
        "longest": int(sizes.max()),
        "mean": float(sizes.mean()),
        "heads": packed.heads,
        "width": packed.width,
        "streams": packed.streams,
    }


def compare(packed: Packed, prepare: Callable[[Packed, torch.device], Attend], device: torch.device) -> Any:
    """Measure one way of attention, and its difference from the present one.

    On a CPU, FlexAttention has no backward pass: there the forward pass alone is measured.

    Args:
        packed: the rows.
        prepare: does what the host does for each forward pass, and returns the attention.
        device: of the attention.
    """
    generator = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = (int(packed.sizes.sum()), packed.heads, packed.width // packed.heads)
    drawn = [torch.randn(shape, generator=generator).to(device, dtype) for _ in range(4)]
    *inputs, gradient = drawn
    expected = results(present(packed, device), inputs, gradient)
    attend = prepare(packed, device)
    found = results(attend, inputs, gradient)
    off = max(
        float((a.float() - b.float()).abs().max() / b.float().abs().max())
        for a, b in zip(found, expected, strict=True)
    )
    del expected, found
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    rounds = ROUNDS[device.type]
    milliseconds = median(lambda: results(attend, inputs, gradient), rounds)
    figures = {
        "ms": milliseconds,
        "layout ms": median(lambda: prepare(packed, device), rounds),
        "off": off,
        "agrees": off <= ALLOWED,
    }
    if device.type == "cuda":
        figures["peak GiB"] = torch.cuda.max_memory_allocated() / GIB
    return figures


def results(attend: Attend, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """Return the output of an attention, and on a GPU the gradients of its inputs."""
    if gradient.device.type == "cpu":
        return [attend(*inputs)]
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = attend(*leaves)
    return [output.detach(), *torch.autograd.grad(output, leaves, gradient)]


def median(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of some work in milliseconds, after a call that warms up."""
    times = []
    for _ in range(1 + rounds):
        wait_for_gpu()
        began = time.perf_counter()
        work()
        wait_for_gpu()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[1:])


def present(packed: Packed, device: torch.device) -> Attend:
    """Return the attention of `pipelines.models.nn`: groups of rows, padded to their longest row."""
    layout = packed.layout(device)
    sizes = [group.tokens for group in layout.groups]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        qk = torch.stack((q, k), dim=1)  # [M, 2, A, D/A], as a block's one product gives it
        parts = zip(layout.groups, qk.split(sizes), v.split(sizes), strict=True)
        return torch.cat([group_attention(*part) for part in parts])

    return attend


def variable_length(packed: Packed, device: torch.device) -> Attend:
    """Return the variable-length attention of `torch.nn.attention.varlen`.

    Raises:
        NotImplementedError: the rows have two streams, whose mask it cannot express.
    """
    if packed.streams == 2:
        raise NotImplementedError("the mask of two streams")
    from torch.nn.attention.varlen import varlen_attn

    longest = int(packed.sizes.max())
    starts = torch.as_tensor(np.concatenate(([0], packed.sizes.cumsum())), dtype=torch.int32).to(device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        result: Tensor = varlen_attn(q, k, v, starts, starts, longest, longest)
        return result

    return attend


def flexible(packed: Packed, device: torch.device, dynamic: bool) -> Attend:
    """Return FlexAttention with a mask of documents, which are the rows.

    Args:
        packed: the rows.
        device: of the attention.
        dynamic: if true, one kernel is compiled for all numbers of tokens, as training would need it; else
            one for this number.
    """
    kernel = compiled_flex_attention(dynamic) if device.type == "cuda" else flex_attention
    mask = block_mask(packed, device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = (x.transpose(0, 1)[None] for x in (q, k, v))  # [1, A, M, D/A] each
        result: Tensor = kernel(*parts, block_mask=mask)
        return result[0].transpose(0, 1)

    return attend


@functools.cache
def compiled_flex_attention(dynamic: bool) -> Callable[..., Any]:
    """Return FlexAttention as a fused kernel; see `flexible`."""
    kernel: Callable[..., Any] = torch.compile(flex_attention, dynamic=dynamic)
    return kernel


def block_mask(packed: Packed, device: torch.device) -> BlockMask:
    """Return the mask of FlexAttention, built from the lengths on the host: the rows that a block of queries
    belongs to are neighbors, and so are the blocks of their keys.
    """
    sizes = packed.sizes
    ends = sizes.cumsum()
    M, starts = int(ends[-1]), ends - sizes
    row = np.repeat(np.arange(len(sizes)), sizes)  # [M]
    item = (np.arange(M) - starts[row]) // packed.per_item  # [M], place of the item in its row
    of_stream = packed.lengths[row]
    clean = item < of_stream
    document, place, is_clean = (
        torch.as_tensor(array).to(device, non_blocking=True)
        for array in (row.astype(np.int32), (item % of_stream).astype(np.int32), clean)
    )

    def sees(_b: Tensor, _h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = document[query] == document[key]
        if packed.streams == 1:
            return same
        past = is_clean[key] & (place[query] > place[key])
        itself = (place[query] == place[key]) & (is_clean[query] == is_clean[key])
        return same & (past | itself)

    blocks = -(-M // BLOCK)
    heads = np.arange(blocks) * BLOCK  # first token of each block
    tails = np.minimum(heads + BLOCK, M) - 1
    first = starts[row[heads]] // BLOCK  # [blocks], first block of keys
    counts = (ends[row[tails]] - 1) // BLOCK - first + 1  # [blocks]
    indices = np.minimum(first[:, None] + np.arange(blocks), blocks - 1)  # [blocks, blocks]
    return BlockMask.from_kv_blocks(
        torch.as_tensor(counts.astype(np.int32))[None, None].to(device),
        torch.as_tensor(indices.astype(np.int32))[None, None].to(device),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(M, M),
    )


WAYS: dict[str, Callable[[Packed, torch.device], Attend]] = {
    "padded groups": present,
    "variable length": variable_length,
    "FlexAttention, one length": partial(flexible, dynamic=False),
    "FlexAttention": partial(flexible, dynamic=True),
}
