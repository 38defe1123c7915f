"""The ways a command can fail: by the user's input (exit code 2), by a training that diverges, or by a fault of ours (exit code 1)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Input that cannot be used: one message that names the value, the file and what to do next.

    The command line shows the message without a traceback and exits with code 2. Everything else that
    escapes a command, but for `TrainingDiverged`, is a fault of maskgr; both exit with code 1.
    """


class TrainingDiverged(Exception):
    """A training whose numbers are no longer finite: one message that says since when, what is kept and what to change."""


@contextmanager
def reading(path: Path, form: str, advice: str) -> Iterator[None]:
    """Around a library's call that reads a file: whatever it throws, the panic of a library in Rust too, becomes one line.

    Args:
        form: what the file should be, e.g. "gzip file".
        advice: what to do about it.

    Raises:
        UserError: naming the file and the library's reason.
    """
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):  # Ctrl-C and the like
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path} is not a readable {form} ({reason}). {advice}".rstrip()) from None


@contextmanager
def unsaid_panics() -> Iterator[None]:
    """Around a library in Rust: keep the message and the stack that it prints before it panics from standard error."""
    own, panics = os.dup(2), False
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            yield
        except BaseException as error:
            panics = _is_panic(error)
            raise
        finally:
            os.dup2(own, 2)
            os.close(own)
            if not panics:
                printed.seek(0)
                os.write(2, printed.read())


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"  # pyo3 makes one for each library
