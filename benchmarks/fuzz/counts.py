"""Numbers of tried, refused and accepted inputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Numbers of the inputs of one kind.

    Attributes:
        name: name of the kind.
        tried: number of inputs.
        refused: number of inputs that were refused in one line.
        accepted: number of inputs that were accepted.
        faults: faults, one line each.
    """

    name: str
    tried: int
    refused: int
    accepted: int
    faults: list[str]
