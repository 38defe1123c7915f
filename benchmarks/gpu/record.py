"""The JSON of a check. It is written after everything that a part reports, so that a cut loses nothing, and
the next call reads what is done from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import artifacts

LONGEST_TEXT = 4000  # characters of a text, of which the end is kept: the whole file stays below 1 MB
FINISHED = "finished"


@dataclass(frozen=True)
class Record:
    """The results of all parts so far.

    Attributes:
        files: paths of the JSON, all with the same content; the first is the one that is read again.
        content: the JSON; "parts" holds for each part its state ("running", "finished", "failed" or "over its
            budget"), seconds, peak memory and results.
    """

    files: tuple[Path, ...]
    content: dict[str, Any]

    @staticmethod
    def open(files: tuple[Path, ...], again: bool = False) -> Record:
        """Return the record of earlier calls, or a new one.

        Args:
            files: see `Record`.
            again: if true, earlier calls do not count.
        """
        earlier = artifacts.read_json(files[0]) if files[0].exists() and not again else {}
        return Record(files, {"parts": {}, "calls": [], **earlier})

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """What is known of each part that has begun."""
        parts: dict[str, dict[str, Any]] = self.content["parts"]
        return parts

    def results(self, name: str) -> dict[str, Any]:
        """Return the results of a part; empty if there are none."""
        results: dict[str, Any] = self.parts.get(name, {}).get("results", {})
        return results

    def pending(self, names: list[str]) -> list[str]:
        """Return the parts that are not finished: those that were never tried or were cut first, then those
        that failed.
        """
        unfinished = [name for name in names if self._state(name) != FINISHED]
        return sorted(unfinished, key=lambda name: self._state(name) not in ("", "running"))

    def begin(self, name: str) -> None:
        """Record that a part begins."""
        self.parts[name] = {"state": "running", "commit": artifacts.commit(), "results": {}}
        self.write()

    def add(self, name: str, key: str, value: Any) -> None:
        """Record a result of a running part."""
        self.parts[name]["results"][key] = value
        self.write()

    def end(self, name: str, state: str, seconds: float, further: dict[str, Any]) -> None:
        """Record the end of a part.

        Args:
            name: of the part.
            state: its last state.
            seconds: its duration.
            further: what else is known: peak memory, a traceback.
        """
        self.parts[name] |= {"state": state, "seconds": seconds, **further}
        self.write()

    def write(self) -> None:
        """Write all files, each of them atomically."""
        content = plain(self.content)
        for file in self.files:
            artifacts.write_json(file, content)

    def _state(self, name: str) -> str:
        return str(self.parts.get(name, {}).get("state", ""))


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: numbers that are not finite as None, long texts by their end."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, str):
        return value[-LONGEST_TEXT:]
    return value
