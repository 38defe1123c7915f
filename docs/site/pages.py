"""Hook of MkDocs: pages that are generated from the program itself, so that they cannot differ from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from artifact_page import artifact_page  # MkDocs imports a hook with its folder in the path
from command_page import command_page
from mkdocs.structure.files import File

from pipelines.decode.config import Decoding
from pipelines.options import flag_of

PYTHON = """# Python: all calls

Generated from the docstrings of the package `maskgr`. [python.md](python.md) is the tutorial.

::: maskgr.load

::: maskgr.Model
    options:
      members: [recommend, history, similar, items, semantic_ids]

::: maskgr.UserError

::: maskgr.Decoding
    options:
      members: []

Its fields are keyword arguments. [decoding.md](decoding.md) explains them.

| field | default | meaning |
| --- | --- | --- |
"""


def python_page() -> str:
    """Return the page of the Python package, with a table of the settings of decoding."""
    rows = [
        f"| `{field.name}` | `{field.default}` | {field.metadata['help']} (`{flag_of(field)}`) |\n"
        for field in dataclasses.fields(Decoding)
    ]
    return PYTHON + "".join(rows)


def on_files(files: Any, *, config: Any) -> Any:
    """Add the generated pages."""
    pages = {
        "reference-commands.md": command_page(),
        "reference-artifacts.md": artifact_page(),
        "reference-python.md": python_page(),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files
