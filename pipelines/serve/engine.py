"""The thread that owns the model. Requests wait in a bounded queue; those that wait together are answered
together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipelines.serve.messages import Ask
from pipelines.serve.metrics import Metrics
from pipelines.serve.served import Prepared, Served

Work = Ask | Callable[[Served], dict[str, Any]]


class Full(Exception):
    """The queue holds as many requests as it may."""


class Late(Exception):
    """A request waited longer than it may."""


@dataclass(frozen=True, eq=False)
class Job:
    """A request that waits.

    Attributes:
        work: a request for recommendations, or a function of the run.
        future: receives the answer and the number of requests that were answered with it.
    """

    work: Work
    future: asyncio.Future[tuple[dict[str, Any], int]]


class Engine:
    """Answers requests in one thread, with the run that is served when their turn comes.

    Attributes:
        served: the run.
        timeout: seconds that a request may wait and take.
    """

    def __init__(self, served: Served, max_batch: int, queue: int, timeout: float, metrics: Metrics) -> None:
        """
        Args:
            served: the run.
            max_batch: largest number of requests that are answered together.
            queue: largest number of requests that wait.
            timeout: seconds that a request may wait and take.
            metrics: receives the length of the queue and the sizes of batches.
        """
        self.served = served
        self.timeout = timeout
        self._max_batch, self._most, self._metrics = max_batch, queue, metrics
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()
        metrics.queue.set_function(lambda: len(self._waiting))

    @property
    def is_ready(self) -> bool:
        """True if requests are answered."""
        return self._thread.is_alive() and not self._ended

    @property
    def is_full(self) -> bool:
        """True if a further request would be refused."""
        return len(self._waiting) >= self._most or self._ended

    def swap(self, served: Served) -> None:
        """Serve another run from the next batch on."""
        self.served = served

    async def do(self, work: Work) -> tuple[dict[str, Any], int]:
        """Return the answer to a request, and the number of requests that were answered with it.

        Raises:
            Full: too many requests wait.
            Late: the request waited too long.
            Unusable, NoSuchItem: see `Served`.
        """
        job = Job(work, asyncio.get_running_loop().create_future())
        with self._changed:
            if self.is_full:
                raise Full
            self._waiting.append(job)
            self._changed.notify()
        try:
            return await asyncio.wait_for(job.future, self.timeout)
        except (asyncio.TimeoutError, TimeoutError):
            raise Late from None

    def end(self) -> None:
        """Answer what waits, and end the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait()
                if not self._waiting:
                    return
                count = min(self._max_batch, len(self._waiting))
                jobs = [self._waiting.popleft() for _ in range(count)]
            # Who gave up is passed over: the future is canceled.
            self._answer([job for job in jobs if not job.future.done()])

    def _answer(self, jobs: list[Job]) -> None:
        """Answer requests; those for recommendations with equal settings together."""
        served = self.served
        groups: dict[tuple[object, ...], list[tuple[Job, Prepared]]] = {}
        for job in jobs:
            try:
                if isinstance(job.work, Ask):
                    prepared = served.prepare(job.work)
                    groups.setdefault(prepared.key, []).append((job, prepared))
                else:
                    _deliver([job], [job.work(served)])
            except BaseException as error:  # a Rust library's panic is no Exception; the thread must go on
                _fail([job], error)
        for group in groups.values():
            self._metrics.batch.observe(len(group))
            together = [job for job, _ in group]
            try:
                _deliver(together, served.answer([prepared for _, prepared in group]))
            except BaseException as error:
                _fail(together, error)


def _deliver(jobs: list[Job], answers: list[dict[str, Any]]) -> None:
    """Hand answers to those who wait for them, in their thread."""

    def deliver() -> None:
        for job, answer in zip(jobs, answers, strict=True):
            if not job.future.done():
                job.future.set_result((answer, len(jobs)))

    _in_loop(jobs, deliver)


def _fail(jobs: list[Job], error: BaseException) -> None:
    """Hand an error to those who wait for an answer, in their thread."""

    def fail() -> None:
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(error if isinstance(error, Exception) else RuntimeError("panic"))

    _in_loop(jobs, fail)


def _in_loop(jobs: list[Job], function: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        jobs[0].future.get_loop().call_soon_threadsafe(function)
