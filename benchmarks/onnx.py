"""Time of one user on one core: the ONNX graph of a run in onnxruntime against the model in PyTorch.

    python -m benchmarks.onnx RUN --workspace FOLDER

The model is timed in two ways: its one function evaluation alone, in float32, as the graph computes it; and
as `maskgr recommend` calls it in a loaded process, with the precision that suits the processor and the search
for the best items. All sides take turns, history by history, in one thread, whose processor time is measured.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.common import run_parser, save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.bundle.graph import Ranking, check_exportable, export, median_seconds
from pipelines.data.sequences import Sequences
from pipelines.decode.config import Decoding
from pipelines.recommend.load import load
from pipelines.recommend.model import Model

K, USERS, WARM = 10, 1000, 50  # items of a list; users; users whose times do not count


def main() -> None:
    options = run_parser(__doc__, "onnx").parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    model = load(options.run, workspace=options.workspace, device="cpu")
    figures = measure(model)
    title = f"One user on one core, {model.run.name}, {artifacts.machine()}"
    console.table(title, ["", "value"], list(figures.items()))
    if options.save:
        save("onnx", figures)


def measure(model: Model) -> dict[str, str]:
    """Return the figures as text: milliseconds of each side, their ratios, and the share of equal lists."""
    trained = model.trained
    check_exportable(trained)
    ranking = Ranking(trained, model.popularity.counts, K).eval()
    with tempfile.TemporaryDirectory() as folder:
        export(ranking, Path(folder) / "model.onnx")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            Path(folder) / "model.onnx", settings, providers=["CPUExecutionProvider"]
        )
    most, query = trained.model.config.max_items, model.query(Decoding(), K)
    rows = np.random.default_rng(0).choice(len(model.sequences), USERS + WARM, replace=False)
    starts, ends = model.sequences.offsets[rows], model.sequences.offsets[rows + 1]
    histories = [
        model.sequences.items[max(start, end - most) : end].astype(np.int64)[None]
        for start, end in zip(starts, ends, strict=True)
    ]

    def graph(history: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {"items": history})[0]
        return found

    def alone(history: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return ranking(torch.as_tensor(history))[0].numpy()

    def loaded(history: np.ndarray) -> np.ndarray:
        one = Sequences(history[0].astype(np.int32), np.array([0, history.shape[1]]))
        return model.find(query, one).items[:, :, 0]

    median_seconds(histories[:WARM], graph, alone, loaded)
    histories = histories[WARM:]
    seconds = median_seconds(histories, graph, alone, loaded)
    same = np.mean([np.array_equal(graph(history), alone(history)) for history in histories])
    names = ("onnxruntime", "the model's function evaluation", "maskgr recommend, loaded")
    times = {name: f"{1000 * value:.2f} ms" for name, value in zip(names, seconds, strict=True)}
    ratios = {f"{name} / onnxruntime": f"{seconds[i] / seconds[0]:.1f}" for i, name in enumerate(names) if i}
    return {**times, **ratios, "lists equal to the function evaluation's": f"{same:.1%} of {USERS:,} users"}


if __name__ == "__main__":
    main()
