"""Metrics of a grid, by the labels of recipes and tables. This module imports no heavy library."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelines.errors import UserError
from pipelines.evaluate.config import CUTOFFS

NAMED = {  # label → name in the artifact, source, title of the axis, factor, decimals
    "invalid": ("invalid_rate", "evaluation", "invalid beams (%)", 100, 2),
    "duplicate": ("duplicate_rate", "evaluation", "duplicate beams (%)", 100, 2),
    "dependence": ("dependence", "diagnosis", "dependence between digits (nats)", 1, 3),
    "joint loss": ("joint_loss", "diagnosis", "log-likelihood lost by one function evaluation (nats)", 1, 3),
    "users": ("users", "statistics", "users", 1, 0),
    "items": ("items", "statistics", "items", 1, 0),
    "interactions": ("interactions", "statistics", "interactions", 1, 0),
    "average length": ("average_length", "statistics", "average length (items)", 1, 2),
    "sparsity": ("sparsity", "statistics", "sparsity (%)", 100, 2),
}
RANKED = {"R": ("recall", "Recall"), "N": ("ndcg", "NDCG")}  # letter of a label → name, title of the axis


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    Attributes:
        label: name in recipes, e.g. "R@5".
        name: name in an artifact, e.g. "recall".
        k: cut-off; None for a metric without one.
        source: "evaluation", "diagnosis" or "statistics".
        axis: title of an axis, with the unit.
        factor: factor from the stored value to the value in a table.
        decimals: number of decimals in a table.
    """

    label: str
    name: str
    k: int | None
    source: str
    axis: str
    factor: int
    decimals: int

    def format(self, value: float | None, sign: bool = False) -> str:
        """Return a stored value as tables print it: "—" for None, never −0.

        Args:
            value: stored value.
            sign: if true, a positive value has a plus sign.
        """
        if value is None:
            return "—"
        rounded = round(self.factor * value, self.decimals) + 0.0  # −0.0 + 0.0 is 0.0
        return f"{rounded:{'+' * sign},.{self.decimals}f}"


def find_metric(label: str) -> Metric:
    """Return the metric with this label.

    Raises:
        UserError: there is no such metric.
    """
    if label in NAMED:
        name, source, axis, factor, decimals = NAMED[label]
        return Metric(label, name, None, source, axis, factor, decimals)
    match = re.fullmatch(r"([RN])@(\d+)", label)
    if not match or int(match[2]) not in CUTOFFS:
        ranked = ", ".join(f"{letter}@{k}" for letter in RANKED for k in CUTOFFS)
        raise UserError(f"metric {label!r} is unknown; choose {ranked}, {', '.join(NAMED)}")
    name, title = RANKED[match[1]]
    return Metric(label, name, int(match[2]), "evaluation", f"{title}@{match[2]} (%)", 100, 2)
