"""Files that a user names: files, folders, patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.readers.paths import files_of


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    names = ["b.csv", "a.csv", "sub/c.csv", "_SUCCESS", ".b.crc", "other.txt", "log[1].csv"]
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")

    def found(*paths: str) -> list[str]:
        return [
            str(file.relative_to(tmp_path / "in")) for file in files_of([tmp_path / p for p in paths], "-i")
        ]

    assert found("in/b.csv", "in/a.csv") == ["b.csv", "a.csv"]
    assert found("in") == ["a.csv", "b.csv", "log[1].csv", "other.txt", "sub/c.csv"]
    assert found("in/?.csv", "in/a.csv") == ["a.csv", "b.csv"]
    assert found("in/s*") == ["sub/c.csv"]
    assert found("in/**/*.csv") == ["a.csv", "b.csv", "log[1].csv", "sub/c.csv"]
    assert found("in/log[1].csv") == ["log[1].csv"]  # a file that exists is no pattern


@pytest.mark.parametrize(
    ("path", "problem"),
    [("none.csv", "does not exist"), ("*.none", "matches no file"), ("empty", "is a folder without files")],
)
def test_paths_without_files(tmp_path: Path, path: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"{problem}.*Check --interactions"):
        files_of([tmp_path / path], "--interactions")
