"""What exact constrained beams cost where an evaluation reveals several digits: users a second with and without branch and bound.

Without, the K most promising beams are followed whatever the catalogue holds; how many users' first ten items that changes is said.
"""

from __future__ import annotations

import argparse
import statistics
import time
from unittest import mock

import numpy as np
import torch

from benchmarks.common import save
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode import reveal
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.partial import Asked, Partial
from pipelines.decode.reveal import most_promising as search_by_promise
from pipelines.evaluate.recommend import recommend
from pipelines.models.loading import load_run
from pipelines.models.nn.precision import autocast
from pipelines.progress import Silent
from pipelines.workspace import Workspace

FIRST = 10  # items of a user that are compared


def promising(
    asked: Asked, beams: Partial, index: PartialIndex, decoding: Decoding, merge: bool
) -> tuple[Partial, torch.Tensor]:
    """The search without branch and bound: no beam that was left out might have been better."""
    found, lost = search_by_promise(asked, beams, index, decoding, merge)
    return found, torch.full_like(lost, -torch.inf)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", help="a run whose digits are apart, e.g. of --likelihood digit")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--beams", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/exact.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    workspace = Workspace.find()
    trained = load_run(workspace, workspace.require_run(options.run), torch.device("cpu"))
    users = histories(load_sequences(trained.dataset.sequences), "test").sample(options.users, 0)
    index = PartialIndex(trained.catalogue.sids, trained.catalogue.codes)

    def search(T: int, exact: bool) -> tuple[float, np.ndarray]:
        began = time.process_time()
        patched = search_by_promise if exact else promising
        with mock.patch.object(reveal, "most_promising", patched), autocast("auto", torch.device("cpu")):
            found = recommend(trained.model, users, index, Decoding(nfe=T, beams=options.beams), Silent())
        return time.process_time() - began, found.items[:, :FIRST, 0]

    rows, figures = [], []
    for T in range(2, trained.model.digits):
        rounds = [(search(T, True), search(T, False)) for _ in range(options.rounds)]
        ratio = statistics.median(exact[0] / other[0] for exact, other in rounds)
        same = float((rounds[0][0][1] == rounds[0][1][1]).all(axis=1).mean())
        rate = options.users / statistics.median(exact[0] for exact, _ in rounds)
        figures.append({"evaluations": T, "cost_ratio": ratio, "users/s": rate, "same_without": same})
        rows.append((f"T = {T}", f"{rate:,.0f}", f"{ratio:.2f}×", f"{100 * same:.1f} %"))
    headers = ["evaluations", "users/s of CPU time", "cost", f"first {FIRST} alike without"]
    console.table(
        f"Exact beams of {options.run}, {options.beams} beams, {options.users:,} users",
        headers,
        rows,
        artifacts.machine(),
    )
    if options.save:
        save(
            "exact",
            {"run": options.run, "beams": options.beams, "users": options.users, "evaluations": figures},
        )


if __name__ == "__main__":
    main()
