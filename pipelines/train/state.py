"""State of a training beside the weights and the optimizer's moments."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class State:
    """State of a training, as a checkpoint holds it beside weights and optimizer moments.

    Attributes:
        step: number of optimizer steps done.
        seconds: seconds of training, validations included.
        tokens: number of tokens trained on.
        validated: number of validations done.
        best: best Recall@10 of a validation, a fraction; −1 before the first validation.
        best_step: step of the best validation.
        since_best: number of validations since the best one.
        history: records (step, measure, value).
    """

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    validated: int = 0
    best: float = -1.0
    best_step: int = 0
    since_best: int = 0
    history: list[tuple[int, str, float]] = field(default_factory=list)

    def summary(self, budget_fraction: float) -> str:
        """Return a line with loss, speed, last validation and remaining time.

        Args:
            budget_fraction: fraction of the training that is done, 0 to 1.
        """
        latest = {name: value for _, name, value in self.history}
        remaining = self.seconds * (1 - budget_fraction) / max(budget_fraction, 1e-9)
        parts = [f"step {self.step}"]
        if self.tokens:  # a counted model has none
            parts.append(f"loss {latest.get('loss', math.nan):.3f}")
            parts.append(f"{self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s")
        if "recall@10" in latest:
            parts.append(f"validation R@10 {100 * latest['recall@10']:.2f} (best {100 * self.best:.2f})")
        return " · ".join((*parts, f"{remaining / 60:.1f} min left"))
