"""A schedule that is fitted to the time that is left: the learning rate reaches its end in time."""

from __future__ import annotations

from dataclasses import dataclass

USED = 0.85  # share of the time for training that the steps are planned for
VALIDATING = 0.15  # share of that for validations, at most
TESTING = 0.35  # share of all time for the test, at most; beyond it, a sample of the users is tested
LOADING = 5.0  # seconds for loading the data again, and the weights for the test


@dataclass(frozen=True)
class Pace:
    """Measured duration of the work of a training.

    Attributes:
        steps: optimizer steps per second.
        validation: seconds of a validation.
        test: seconds of a test of all users, estimated.
    """

    steps: float
    validation: float
    test: float


@dataclass(frozen=True)
class Schedule:
    """Length of a training.

    Attributes:
        steps: number of optimizer steps, from which the learning rate follows.
        validations: number of validations.
        minutes: bound on the minutes, for a machine that becomes slower than it was measured; the learning
            rate ends with it too.
        tested: share of the users that the test takes.
    """

    steps: int
    validations: int
    minutes: float
    tested: float


def fit(pace: Pace, seconds: float, steps: int, validations: int) -> Schedule:
    """Return the longest schedule that ends in time, at most that of the preset.

    Args:
        pace: of the training.
        seconds: time for training and test.
        steps: of the preset.
        validations: most validations.

    Raises:
        ValueError: there is no time for a single step.
    """
    test = min(pace.test, TESTING * seconds)
    training = seconds - test - LOADING
    planned = USED * training
    affordable = int(VALIDATING * planned / max(pace.validation, 1e-9))
    count = max(1, min(validations, affordable))
    fitted = int((planned - count * pace.validation) * pace.steps)
    if fitted < 1:
        raise ValueError(
            f"{seconds:.0f} s do not suffice: the test takes {test:.1f} s, a validation "
            f"{pace.validation:.1f} s and a step {1 / pace.steps:.2f} s."
        )
    return Schedule(min(steps, fitted), count, training / 60, test / pace.test)
