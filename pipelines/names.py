"""Names that a user gives to data sets, embeddings, semantic IDs, runs and reports.

Each becomes the name of a file or folder.
"""

from __future__ import annotations

import re

from pipelines.errors import UserError
from pipelines.options import quoted

LONGEST_NAME = 128  # characters; file systems allow 255 bytes, and temporary files have longer names
LONGEST_SLUG = 100  # characters
PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def checked_name(name: str) -> str:
    """Return `name` if it is valid.

    Raises:
        UserError: the name is empty or too long, holds anything but letters, digits, dot, dash, plus and
            underscore, or begins with a dot, a dash or a plus.
    """
    if is_name(name):
        return name
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"{quoted(name)} cannot be a name: it has {len(name):,} characters, and a name has at most "
            f"{LONGEST_NAME}."
        )
    raise UserError(
        f"{quoted(name)} cannot be a name: use letters, digits, dot, dash, plus and underscore, "
        "and begin with a letter or digit."
    )


def is_name(name: str) -> bool:
    """Return True if the name is valid."""
    return len(name) <= LONGEST_NAME and bool(PATTERN.fullmatch(name))


def slug(text: str, otherwise: str) -> str:
    """Return a valid name that is made from a text, or `otherwise` if the text has no character for one."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).lstrip(".+-")[:LONGEST_SLUG] or otherwise
