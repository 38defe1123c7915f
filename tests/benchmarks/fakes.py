"""A reader with every possible outcome; imported by the processes of `benchmarks.fuzz.pool`."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from benchmarks.fuzz.readers import Reader
from pipelines.errors import UserError
from pipelines.workspace import Workspace

OUTCOMES = ("accepted", "refused", "fault", "crash", "accepted")


def _mutate(rng: Random, data: bytes) -> bytes:
    """Return the number of the file, which follows from the state of its random generator."""
    states = (Random(f"0 fake {n}").getstate() for n in range(len(OUTCOMES)))
    return b"%d" % next(n for n, state in enumerate(states) if state == rng.getstate())


def _read(_: Workspace, path: Path) -> None:
    outcome = OUTCOMES[int(path.read_bytes())]
    if outcome == "refused":
        raise UserError("no")
    if outcome == "fault":
        raise KeyError("b")
    if outcome == "crash":
        os._exit(9)


READERS = {"fake": Reader("fake", _mutate, _read, file="number")}
