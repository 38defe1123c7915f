"""The messages of docs/troubleshooting.md are those of the program."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@functools.cache
def texts() -> list[str]:
    """Return all texts of the source, with `…` for what is put in."""
    paths = [path for room in ("pipelines", "maskgr_cli") for path in sorted((ROOT / room).rglob("*.py"))]
    found = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_page_has_messages() -> None:
    assert len(MESSAGES) == len(set(MESSAGES)) >= 15


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_raised_in_these_words(message: str) -> None:
    fixed = [re.escape(part.strip()) for part in message.split("…")]
    pattern = re.compile(".*".join(fixed), re.DOTALL)
    assert any(pattern.search(text) for text in texts())
