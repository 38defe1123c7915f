"""Errors of a command: unusable input (exit code 2), a diverged training or a bug (exit code 1)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Input that cannot be used. The message names the value, the file and what the user should do next.

    The command line shows the message without a traceback and exits with code 2. Any other exception that
    leaves a command, except `TrainingDiverged`, is a bug in maskgr. Bugs and diverged trainings exit with
    code 1.
    """


class TrainingDiverged(Exception):
    """A training whose numbers are no longer finite.

    The message names the step, what is kept and what the user should change.
    """


@contextmanager
def reading(path: Path, form: str, advice: str) -> Iterator[None]:
    """Turn every error that a library raises while it reads a file into a UserError.

    Panics of Rust libraries are included. UserError and FileNotFoundError pass unchanged.

    Args:
        path: file that the block reads.
        form: expected kind of the file, e.g. "gzip file".
        advice: instruction for the user.

    Raises:
        UserError: the library failed; the message names the file and the library's reason.
    """
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):  # e.g. KeyboardInterrupt
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path} is not a readable {form} ({reason}). {advice}".rstrip()) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error says that the memory of the host or of a GPU does not suffice.

    Python and numpy raise MemoryError. PyTorch raises its OutOfMemoryError for a GPU, and for the host a
    RuntimeError that is told by its message.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_lost_process(error: BaseException) -> bool:
    """Return True if an error says that another process of those that were started together has ended.

    PyTorch raises errors of its own for its stores and NCCL, and for gloo a RuntimeError that names gloo's
    source file.
    """
    if type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError"):
        return True
    return isinstance(error, RuntimeError) and "gloo/transport" in str(error)


@contextmanager
def enough_memory(work: str, advice: str) -> Iterator[None]:
    """Turn errors of exhausted memory into a UserError.

    Args:
        work: what the block does, e.g. "train NAME".
        advice: instruction for the user: the options to lower.

    Raises:
        UserError: the memory did not suffice.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        place = "GPU's memory" if type(error).__name__ == "OutOfMemoryError" else "memory"
        raise UserError(f"The {place} is too small to {work}. {advice}") from None


@contextmanager
def hidden_panics() -> Iterator[None]:
    """Hide the message and the stack trace that a Rust library prints to standard error before it panics.

    Anything else that the block prints to standard error is printed after the block.
    """
    stderr, panicked = os.dup(2), False
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException as error:
            panicked = _is_panic(error)
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            if not panicked:
                captured.seek(0)
                os.write(2, captured.read())


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"  # each Rust library has its own class of this name (pyo3)
