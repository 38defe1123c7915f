"""Reload: a new state of the run takes the place of the old one while requests are answered."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from pipelines.errors import UserError
from pipelines.serve.engine import Engine
from pipelines.serve.logs import log, log_fault
from pipelines.serve.metrics import Metrics
from pipelines.serve.served import Served


class Reloader:
    """Loads the run again, and serves it if it can be loaded."""

    def __init__(self, load: Callable[[], Served], engine: Engine, metrics: Metrics) -> None:
        """
        Args:
            load: returns the run as it is now, ready to answer.
            engine: serves it.
            metrics: receives the outcome.
        """
        self._load, self._engine, self._metrics = load, engine, metrics
        self._turn = asyncio.Lock()
        metrics.run.info(_labels(engine.served))

    async def reload(self) -> str | None:
        """Load the run in a thread of its own and serve it from the next batch on; one reload at a time.

        Returns:
            None; or the reason why the old run is still served.
        """
        async with self._turn:
            try:
                served = await asyncio.to_thread(self._load)
            except Exception as error:
                reason = str(error) if isinstance(error, (UserError, OSError)) else type(error).__name__
                self._metrics.reloads.labels("failed").inc()
                log_fault("reload failed", error, reason=reason)
                return reason
            self._engine.swap(served)
            await asyncio.to_thread(settle)
            self._metrics.reloads.labels("loaded").inc()
            self._metrics.run.info(_labels(served))
            log("reloaded", run=served.model.run.name)
            return None


def settle() -> None:
    """Remove what is no longer used, and exempt the rest from further searches for it: the hundreds of
    thousands of objects of libraries and run, through which a search takes a tenth of a second.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _labels(served: Served) -> dict[str, str]:
    """Return the labels of a run among the figures."""
    return {name: str(served.facts[name]) for name in ("run", "model", "dataset", "items")}
