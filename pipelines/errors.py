"""The two ways a command can fail: by the user's input (exit code 2) or by a fault of ours (exit code 1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Input that cannot be used: one message that names the value, the file and what to do next.

    The command line shows the message without a traceback and exits with code 2. Everything else that
    escapes a command is a fault of maskgr and exits with code 1.
    """


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
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # Ctrl-C and the like
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"{path} is not a readable {form} ({reason}). {advice}".rstrip()) from None
