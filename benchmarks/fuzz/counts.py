"""What became of the inputs that were tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Inputs of one kind: how many were tried, refused in a line and accepted, and the faults, a line each."""

    name: str
    tried: int
    refused: int
    accepted: int
    faults: list[str]
