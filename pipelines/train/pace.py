"""Estimate of the training time, made once from the first steps."""

from __future__ import annotations

from pipelines import artifacts

STEPS = 20  # steps that the estimate is made from,
SECONDS = 10.0  # or as many steps as take this long, at least two


class Pace:
    """Estimator of the time that the steps of one call will take.

    The first step is not counted, because its setup takes time that other steps do not take.
    """

    def __init__(self, steps: int | None, minutes: float | None) -> None:
        """
        Args:
            steps: number of steps of the training; None if minutes alone end it.
            minutes: bound on its minutes; None for none.
        """
        self.steps, self.minutes = steps, minutes
        self._first: tuple[int, float] | None = None
        self._is_done = False

    def estimate(self, step: int, seconds: float) -> str | None:
        """Return a line about the remaining time at the first step that allows an estimate, else None.

        Args:
            step: number of steps done in all.
            seconds: seconds of training in all.
        """
        first_step, first_seconds = self._first = self._first or (step, seconds)
        done, taken = step - first_step, seconds - first_seconds
        enough = done >= STEPS or (done >= 2 and taken >= SECONDS)
        if self._is_done or self.steps is None or not enough:
            return None
        self._is_done = True
        remaining, per_step, minutes = self.steps - step, taken / done, self.minutes
        where = f"on this machine ({artifacts.machine()}), validation not counted"
        if minutes is not None and remaining * per_step > minutes * 60 - seconds:
            fit = step + int(max(0.0, minutes * 60 - seconds) / max(per_step, 1e-9))
            return f"About {fit:,} of {self.steps:,} steps fit into --minutes {minutes:g} {where}."
        return f"About {format_duration(remaining * per_step)} for {remaining:,} steps {where}."


def format_duration(seconds: float) -> str:
    """Return a duration in its largest fitting unit."""
    for unit, size, least in (("days", 86400, 2), ("h", 3600, 2), ("min", 60, 1.5)):
        if seconds >= least * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{seconds:.0f} s"
