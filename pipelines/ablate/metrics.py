"""The figures that a grid may ask for, by the labels that recipes and tables use. Light to import."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelines.errors import UserError

NAMED = {  # label → metric in the artifact, what it is measured by, what the axis says, factor, decimals
    "invalid": ("invalid_rate", "evaluation", "invalid beams (%)", 100, 2),
    "duplicate": ("duplicate_rate", "evaluation", "duplicate beams (%)", 100, 2),
    "dependence": ("dependence", "diagnosis", "dependence between digits (nats)", 1, 3),
    "joint loss": ("joint_loss", "diagnosis", "log-likelihood lost by one evaluation (nats)", 1, 3),
    "users": ("users", "statistics", "users", 1, 0),
    "items": ("items", "statistics", "items", 1, 0),
    "interactions": ("interactions", "statistics", "interactions", 1, 0),
    "average length": ("average_length", "statistics", "average length (items)", 1, 2),
    "sparsity": ("sparsity", "statistics", "sparsity (%)", 100, 2),
}
RANKED = {"R": ("recall", "Recall"), "N": ("ndcg", "NDCG")}
CUTOFFS = (5, 10, 20, 40)  # that an evaluation reports


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    Attributes:
        label: what recipes call it, e.g. "R@5".
        name, k: its key in an artifact of kind "metrics".
        source: "evaluation", "diagnosis" or "statistics".
        axis: what an axis says, with the unit.
        factor: of the stored value, in tables.
        decimals: in tables.
    """

    label: str
    name: str
    k: int | None
    source: str
    axis: str
    factor: int
    decimals: int

    def shown(self, value: float | None, sign: bool = False) -> str:
        """A stored value as tables print it."""
        return (
            "—"
            if value is None
            else f"{round(self.factor * value, self.decimals) + 0.0:{'+' * sign},.{self.decimals}f}"
        )  # never −0


def metric(label: str) -> Metric:
    """The metric of that label.

    Raises:
        UserError: there is none.
    """
    if label in NAMED:
        name, source, axis, factor, decimals = NAMED[label]
        return Metric(label, name, None, source, axis, factor, decimals)
    found = re.fullmatch(r"([RN])@(\d+)", label)
    if not found or int(found[2]) not in CUTOFFS:
        ranked = ", ".join(f"{letter}@{k}" for letter in RANKED for k in CUTOFFS)
        raise UserError(f"metric {label!r} is unknown; choose {ranked}, {', '.join(NAMED)}")
    name, spoken = RANKED[found[1]]
    return Metric(label, name, int(found[2]), "evaluation", f"{spoken}@{found[2]} (%)", 100, 2)
