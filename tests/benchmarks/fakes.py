"""A reader whose files end in every way; imported by the processes of `benchmarks.fuzz.pool`."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from benchmarks.fuzz.readers import Reader
from pipelines.errors import UserError
from pipelines.workspace import Workspace

ENDS = ("accepted", "refused", "fault", "crash", "accepted")


def _mutate(rng: Random, data: bytes) -> bytes:
    """The number of the file, told by the state of its generator."""
    return b"%d" % next(n for n in range(len(ENDS)) if Random(f"0 fake {n}").getstate() == rng.getstate())


def _read(_: Workspace, path: Path) -> None:
    end = ENDS[int(path.read_bytes())]
    if end == "refused":
        raise UserError("no")
    if end == "fault":
        raise KeyError("b")
    if end == "crash":
        os._exit(9)


READERS = {"fake": Reader("fake", _mutate, _read, file="number")}
