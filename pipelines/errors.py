"""The ways a command can fail: by the user's input (exit code 2), by a training that diverges, or by a fault of ours (exit code 1)."""

from __future__ import annotations


class UserError(Exception):
    """Input that cannot be used: one message that names the value, the file and what to do next.

    The command line shows the message without a traceback and exits with code 2. Everything else that
    escapes a command, but for `TrainingDiverged`, is a fault of maskgr; both exit with code 1.
    """


class TrainingDiverged(Exception):
    """A training whose numbers are no longer finite: one message that says since when, what is kept and what to change."""
