"""At how many steps would a model reach a target? A power law fitted to runs of different numbers of steps.

Each run is a point: its steps, with a schedule of its own from begin to end, and its best validation
Recall@10. Recall after s steps is taken to be a − b · s^(−c), the form of learning curves of Hestness et al.
2017 (arXiv 1712.00409). The fit is repeated on points with binomial noise of the validation users; the
intervals are percentiles of these fits. Seeds differ by more than users do, so true intervals are wider.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from maskgr_cli import console
from pipelines.errors import UserError
from pipelines.workspace import Workspace

Floats = NDArray[np.float64]
PERCENTILES = [2.5, 50, 97.5]
BOUNDS = ([0, 0, 0.05], [1, np.inf, 2])  # of a, b, c


def power_law(steps: Floats, limit: float, loss: float, exponent: float) -> Floats:
    """Return a − b · s^(−c)."""
    return limit - loss * steps**-exponent


def fitted(steps: Floats, recalls: Floats) -> Floats | None:
    """Return a, b and c of the least squares fit; None if there is none."""
    begin = (min(1.0, 1.2 * recalls.max()), 1.0, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            law: Floats = curve_fit(power_law, steps, recalls, begin, bounds=BOUNDS)[0]
        except RuntimeError:
            return None
    return law


def steps_to(law: Floats, target: float) -> float:
    """Return the number of steps at which a law reaches a target; infinity if it never does."""
    limit, loss, exponent = law
    return np.inf if limit <= target else float((loss / (limit - target)) ** (1 / exponent))


def extrapolate(
    steps: Floats, recalls: Floats, users: int, target: float, draws: int = 500, seed: int = 0
) -> tuple[Floats, Floats]:
    """Return the percentiles `PERCENTILES` of the limit a, and of the steps to the target.

    Args:
        steps: numbers of steps of the runs, three or more.
        recalls: their Recall@10.
        users: validation users.
        target: Recall@10 to be reached.
        draws: repetitions of the fit.
        seed: seed of the noise.

    Raises:
        UserError: no law fits.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(users, recalls, (draws, len(recalls))) / users
    laws = [law for law in (fitted(steps, points) for points in drawn) if law is not None]
    if not laws:
        raise UserError("No power law fits these runs. Take runs of more different numbers of steps.")
    reached = np.array([steps_to(law, target) for law in laws])
    limits = np.percentile([law[0] for law in laws], PERCENTILES)
    return limits, np.percentile(reached, PERCENTILES, method="lower")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="names of three or more runs that differ in their steps")
    parser.add_argument("--target", type=float, required=True, help="validation Recall@10, in percent")
    parser.add_argument("--users", type=int, required=True, help="validation users of the runs")
    parser.add_argument("--workspace", type=Path, default=None)
    given = parser.parse_args()
    workspace = Workspace.find(given.workspace)
    configs = [workspace.require_run(name).read_config() for name in given.runs]
    points = {config["steps"]: config["best"]["recall@10"] for config in configs}
    if len(points) < 3:
        raise UserError("A curve with three parameters needs three runs of different numbers of steps.")
    steps = np.array(sorted(points), float)
    recalls = np.array([points[int(count)] for count in steps])
    limit, reached = extrapolate(steps, recalls, given.users, given.target / 100)
    rows = [(f"{count:,.0f}", f"{100 * recall:.2f}") for count, recall in zip(steps, recalls, strict=True)]
    console.table("Runs", ["steps", "validation R@10"], rows)
    shown = ["never" if np.isinf(count) else f"{count:,.0f}" for count in reached]
    console.note(f"Limit: {100 * limit[1]:.2f} [{100 * limit[0]:.2f}, {100 * limit[2]:.2f}].")
    console.note(f"Steps to {given.target:g}: {shown[1]} [{shown[0]}, {shown[2]}].")


if __name__ == "__main__":
    main()
