"""Cost of exact constrained beams where a function evaluation unmasks several digits: users/s with and
without the exact search (`decode.bounded`).

Without the exact search, only the K beams with the largest upper bounds are extended. The benchmark also
reports for how many users this leaves the first ten items unchanged.
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
from pipelines.decode import unmask
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.decode.state import BeamState, Unmasking
from pipelines.decode.unmask import unmask_by_upper_bound
from pipelines.evaluate.recommend import recommend
from pipelines.models.base import DigitModel
from pipelines.models.loading import load_run
from pipelines.models.nn.precision import autocast
from pipelines.progress import Silent
from pipelines.workspace import Workspace

FIRST = 10  # number of a user's items that are compared


def unmask_without_bound(
    unmasking: Unmasking, state: BeamState, index: PartialIndex, decoding: Decoding, merge: bool
) -> tuple[BeamState, torch.Tensor]:
    """Unmask digits as `unmask_by_upper_bound`, with no pruned beam that an exact search would follow."""
    beams, pruned_bound = unmask_by_upper_bound(unmasking, state, index, decoding, merge)
    return beams, torch.full_like(pruned_bound, -torch.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="run with independent digits, e.g. trained with --likelihood digit")
    parser.add_argument("--users", type=int, default=1000, help="number of test users")
    parser.add_argument("--beams", type=int, default=10, help="number of beams K")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each search")
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/exact.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    workspace = Workspace.find()
    trained = load_run(workspace, workspace.require_run(options.run), torch.device("cpu"))
    model = trained.model
    assert isinstance(model, DigitModel), "beam search needs a model with semantic IDs"
    users = histories(load_sequences(trained.dataset.sequences), "test").sample(options.users, 0)
    index = PartialIndex(trained.catalogue.require_sids(), trained.catalogue.codes)

    def search(T: int, exact: bool) -> tuple[float, np.ndarray]:
        """Return seconds of CPU time and the first items of each user."""
        began = time.process_time()
        patched = unmask_by_upper_bound if exact else unmask_without_bound
        with (
            mock.patch.object(unmask, "unmask_by_upper_bound", patched),
            autocast("auto", torch.device("cpu")),
        ):
            result = recommend(model, users, index, Decoding(nfe=T, beams=options.beams), Silent())
        return time.process_time() - began, result.items[:, :FIRST, 0]

    rows, figures = [], []
    for T in range(2, model.digits):
        rounds = [(search(T, True), search(T, False)) for _ in range(options.rounds)]
        ratio = statistics.median(exact[0] / other[0] for exact, other in rounds)
        same = float((rounds[0][0][1] == rounds[0][1][1]).all(axis=1).mean())
        rate = options.users / statistics.median(exact[0] for exact, _ in rounds)
        figures.append({"evaluations": T, "cost_ratio": ratio, "users/s": rate, "same_without": same})
        rows.append((f"T = {T}", f"{rate:,.0f}", f"{ratio:.2f}×", f"{100 * same:.1f} %"))
    headers = ["function evaluations", "users/s of CPU time", "cost", f"same first {FIRST} without"]
    title = f"Exact beams of {options.run}, {options.beams} beams, {options.users:,} users"
    console.table(title, headers, rows, artifacts.machine())
    if options.save:
        settings = {"run": options.run, "beams": options.beams, "users": options.users}
        save("exact", {**settings, "evaluations": figures})


if __name__ == "__main__":
    main()
