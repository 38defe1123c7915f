"""The page of artifacts, from the schemas that the program checks."""

from __future__ import annotations

from pipelines.formats import FORMAT_VERSION
from pipelines.schemas import NULLABLE, NUMBERED_KINDS, SCHEMAS

HEAD = f"""# Artifacts: columns and types

Generated from `pipelines/schemas.py`, which every artifact is checked against when it is written and when it
is read. A table may have further columns. [data.md](data.md#artifacts) says what the columns mean and in
which files they are, [workspace.md](workspace.md) how they are listed, removed and renamed. The format number
of a workspace and of a run's `config.json` is {FORMAT_VERSION}.
"""


def artifact_page() -> str:
    """Return the page: a table of columns for each kind of artifact."""
    parts = [HEAD]
    for kind, columns in SCHEMAS.items():
        parts.append(f"## {kind}\n")
        if kind in NUMBERED_KINDS:
            parts.append("The rows are numbered 0, 1, 2, … in the column of numbers.\n")
        parts.append("| column | type | may be missing |\n| --- | --- | --- |")
        for name, type_ in columns.items():
            shown = "checked by its reader" if type_ is None else f"`{type_}`"
            parts.append(f"| `{name}` | {shown} | {'yes' if (kind, name) in NULLABLE else 'no'} |")
        parts.append("")
    return "\n".join(parts)
