"""Structured logs: one line of JSON an event. No line holds a history, an identifier, a query, or the text of
an error that may repeat them."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import datetime, timezone
from typing import Any, TextIO

LOGGER = "maskgr.serve"


def log(event: str, **facts: Any) -> None:
    """Write an event with its facts."""
    logging.getLogger(LOGGER).info(event, extra={"facts": facts})


def log_fault(event: str, error: BaseException, **facts: Any) -> None:
    """Write an error of the program: its type and the places of the code that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    log(event, error=type(error).__name__, places=places, **facts)


def write_to(stream: TextIO) -> logging.Handler:
    """Make the events of the service and of uvicorn lines of a stream, and return what writes them."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Lines())
    for name in (LOGGER, "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if name == LOGGER else logging.WARNING)
    return handler


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        facts = getattr(record, "facts", {"level": record.levelname.lower()})
        # The arguments of uvicorn's messages may repeat a request; its messages by themselves do not.
        return json.dumps({"time": time, "event": str(record.msg), **facts}, ensure_ascii=True)
