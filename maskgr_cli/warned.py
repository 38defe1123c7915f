"""Warnings of the recommender as notes on the terminal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from maskgr_cli import console, launch


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print the warnings of `pipelines` as notes, each time they occur."""
    shown = warnings.showwarning

    def show(message: Any, category: Any, *rest: Any, **more: Any) -> None:
        if not category.__module__.startswith("pipelines."):
            shown(message, category, *rest, **more)
        elif launch.is_first():
            console.note(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
