"""A model as an ONNX graph: histories in, best items out, in one function evaluation.

The graph is traced from the model itself with padding kept (`nn.packing.padding_kept`), so that it has every
part that the model has. It is compared with the model in onnxruntime before it is kept.

Shapes: B histories, n items of each, N items, k items that the graph returns.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines import artifacts
from pipelines.bundle.manifest import GRAPH, IDS, PROGRAM
from pipelines.errors import UserError
from pipelines.models.base import CountedModel, DigitModel, ItemRanker, Recommender
from pipelines.models.committee import single_models
from pipelines.models.loading import TrainedRun
from pipelines.models.nn.packing import padding_kept
from pipelines.progress import Progress

INPUT, RECOMMENDED, SCORES = "items", "recommended", "scores"
TOLERANCE = 1e-4  # of a score, relative to the largest score of the history and at least absolute
CHECKED = 64  # histories
TEMPLATES = Path(__file__).parent / "templates"


def check_exportable(trained: TrainedRun) -> None:
    """Check that a model ranks the catalogue in one function evaluation, and that onnxruntime is installed.

    Raises:
        UserError: it does not, or a package is missing.
    """
    needs = "--onnx needs a model that ranks the catalogue in one function evaluation"
    if trained.horizon > 1:
        raise UserError(f"{needs}; this run predicts {trained.horizon} items together. Leave --onnx out.")
    for model, _ in single_models([trained.model]):
        name = model.config.name
        if isinstance(model, ItemRanker) and "nfe" in model.decoding_options:
            raise UserError(f"{needs}; --model {name} removes noise in many. Leave --onnx out.")
        if isinstance(model, CountedModel):
            sums = f"--model {name} adds up any number of pairs"
            raise UserError(f"--onnx needs sums of one size; {sums}. Leave --onnx out.")
        if isinstance(model, DigitModel) and "nfe" not in model.decoding_options:
            raise UserError(f"{needs}; --model {name} decodes one digit after another. Leave --onnx out.")
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError("--onnx needs more packages. Install them with: pip install 'maskgr[onnx]'") from None


def item_scores(model: Recommender, history: Tensor, sids: Tensor | None) -> Tensor:
    """Score all items in one function evaluation.

    Args:
        model: a model that `check_exportable` accepts.
        history: int64 [B, n], −1 at padding; n is at most the number of items that the model sees.
        sids: semantic IDs of the catalogue, int64 [N, H]; None if there are none.

    Returns:
        float32 [B, N].
    """
    B = history.shape[0]
    users = torch.zeros(B, dtype=torch.int64)
    if isinstance(model, ItemRanker):
        return model.scores(history, users)
    assert isinstance(model, DigitModel) and sids is not None, "a model ranks items or has digits"
    codes = torch.full((B, 1, model.digits), model.codes)
    return model.denoiser(history, users).score_items(codes, sids).log_probs()


class Ranking(nn.Module):
    """The best items of histories.

    Histories without an item get the most popular items, whose scores are the numbers of interactions.
    """

    counts: Tensor
    sids: Tensor | None

    def __init__(self, trained: TrainedRun, counts: np.ndarray, k: int) -> None:
        """
        Args:
            trained: run whose model `check_exportable` accepts, on the CPU.
            counts: number of interactions of each item, int64 [N].
            k: number of items to return.
        """
        super().__init__()
        self.model, self.k = trained.model, k
        sids = trained.catalogue.sids
        self.register_buffer("counts", torch.as_tensor(counts, dtype=torch.float32))
        self.register_buffer("sids", None if sids is None else torch.as_tensor(sids).long())

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best items, int64 [B, k], and their scores, float32 [B, k], of histories [B, n]."""
        history = items[:, -self.model.config.max_items :]
        scores = item_scores(self.model, history, self.sids)
        is_empty = (history < 0).all(1, keepdim=True)  # [B, 1]
        best = torch.where(is_empty, self.counts, scores).topk(self.k)
        return best.indices, best.values


def write_graph(trained: TrainedRun, counts: np.ndarray, folder: Path, k: int, progress: Progress) -> None:
    """Write the graph, the ids of the items, and the program that shows its use.

    Args:
        trained: run whose model `check_exportable` accepts, on the CPU.
        counts: number of interactions of each item, int64 [N].
        folder: folder of the bundle, which has the items.
        k: number of items that the graph returns, at most N.
        progress: receives the largest difference from the model, and the times.

    Raises:
        RuntimeError: the graph and the model differ.
    """
    ranking = Ranking(trained, counts, min(k, trained.catalogue.items)).eval()
    with progress.task("Tracing the model for ONNX"):
        export(ranking, folder / GRAPH)
    difference, seconds = compare(ranking, folder / GRAPH)
    alone, in_model = (f"{1000 * value:.2f} ms" for value in seconds)
    progress.say(
        f"{GRAPH}: scores of {CHECKED} random histories differ from the model's by at most {difference:.0e}; "
        f"one history on one thread takes {alone} in onnxruntime, {in_model} in the model."
    )
    if isinstance(trained.model, DigitModel) and not trained.model.uses_item_softmax:
        progress.say(
            f"{GRAPH} takes one function evaluation (--nfe 1); maskgr recommend takes one for each digit by "
            "default, and may recommend other items."
        )
    ids = artifacts.read(folder / "items.parquet", "items", columns=["item_id"])["item_id"]
    text = json.dumps([str(name) for name in ids.to_pylist()], ensure_ascii=False)
    (folder / IDS).write_text(text, encoding="utf-8")
    program = (TEMPLATES / f"{PROGRAM}.txt").read_text(encoding="utf-8")
    (folder / PROGRAM).write_text(program, encoding="utf-8")


def export(ranking: Ranking, path: Path) -> None:
    """Write a ranking as an ONNX graph; weights beyond 2 GB go into a file beside it."""
    example = torch.tensor([[-1, 0, 1], [0, 1, 0]])
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad(), padding_kept(), _quiet():
        ranking(example)  # what a model keeps of its weights is computed before it is traced
        program = torch.onnx.export(
            ranking,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[RECOMMENDED, SCORES],
            dynamic_shapes={"items": {0: dynamic, 1: dynamic}},
            verbose=False,
        )
    assert program, "an export by dynamo returns a program"
    program.save(path)


def compare(ranking: Ranking, path: Path) -> tuple[float, tuple[float, float]]:
    """Compare a graph with its model on random histories of all lengths, longer ones than the model sees
    included.

    Returns:
        Largest difference of a score; median seconds for one history on one thread, in onnxruntime and in
        the model.

    Raises:
        RuntimeError: they differ by more than rounding explains.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model, rng = ranking.model, np.random.default_rng(0)
    most = model.config.max_items + 1
    items = rng.integers(0, model.items, (CHECKED, most))
    for row, length in enumerate(np.linspace(0, most, CHECKED).astype(int)):
        items[row, : most - length] = -1
    with torch.inference_mode():
        expected = ranking(torch.as_tensor(items))[1].numpy()
    found, scores = session.run(None, {INPUT: items})
    difference = np.abs(scores - expected)
    allowed = TOLERANCE * np.maximum(1, np.abs(expected).max(1, keepdims=True))
    if not (difference <= allowed).all() or not _distinct(found, model.items):
        raise RuntimeError(f"{path.name} and the model differ by {difference.max()} in a score")
    alone = [row[row >= 0][None] for row in items if row[-1] >= 0]
    with torch.inference_mode(), _one_thread():
        seconds = median_seconds(
            alone,
            lambda history: session.run(None, {INPUT: history}),
            lambda history: ranking(torch.as_tensor(history)),
        )
    return float(difference.max()), (seconds[0], seconds[1])


def median_seconds(histories: list[np.ndarray], *sides: Callable[[np.ndarray], object]) -> list[float]:
    """Return the median seconds of each side for one history; the sides take turns.

    The time is that of the processor in this thread, which work of other programs does not change much.

    Args:
        histories: int64 [1, n] each.
        sides: functions that compute in this thread alone.
    """
    taken: list[list[float]] = [[] for _ in sides]
    for history in histories:
        for side, seconds in zip(sides, taken, strict=True):
            began = time.thread_time()
            side(history)
            seconds.append(time.thread_time() - began)
    return [float(np.median(seconds)) for seconds in taken]


def _distinct(found: np.ndarray, items: int) -> bool:
    """Return True if every row [B, k] holds different items of the catalogue."""
    ordered = np.sort(found, axis=1)
    in_catalogue = bool((found >= 0).all() and (found < items).all())
    return in_catalogue and bool((np.diff(ordered, axis=1) > 0).all())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch use one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the remarks of PyTorch's exporter."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
