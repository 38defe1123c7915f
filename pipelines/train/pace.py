"""How long a training will take, told once from its first steps."""

from __future__ import annotations

from pipelines import artifacts
from pipelines.train.config import TrainConfig

STEPS, SECONDS = 20, 10.0  # steps that tell it, or as many as these seconds take, two at least


class Pace:
    """Watches the steps of one call; the first is left out, for what it sets up takes time that the others do not."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._first: tuple[int, float] | None = None
        self._told = config.steps is None

    def estimate(self, step: int, seconds: float) -> str | None:
        """The time that the steps left will take, in a line, at the step when it is first known; else None.

        Args:
            step: steps done in all.
            seconds: of training in all.
        """
        first_step, first_seconds = self._first = self._first or (step, seconds)
        done, taken = step - first_step, seconds - first_seconds
        if self._told or not (done >= STEPS or (done >= 2 and taken >= SECONDS)):
            return None
        self._told = True
        left, each, minutes = self.config.steps - step, taken / done, self.config.minutes
        where = f"on this machine ({artifacts.machine()}), validation not counted"
        if minutes is not None and left * each > minutes * 60 - seconds:
            fit = step + int(max(0.0, minutes * 60 - seconds) / max(each, 1e-9))
            return f"About {fit:,} of {self.config.steps:,} steps fit into --minutes {minutes:g} {where}."
        return f"About {spoken(left * each)} for {left:,} steps {where}."


def spoken(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for unit, size, least in (("days", 86400, 2), ("h", 3600, 2), ("min", 60, 1.5)):
        if seconds >= least * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{seconds:.0f} s"
