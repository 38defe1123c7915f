"""Files that a user names: one by one, as a folder, or by a pattern."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import UserError
from pipelines.options import check_path, printable

HIDDEN = (".", "_")  # first characters of the names of files that a folder does not offer, e.g. _SUCCESS


def files_of(paths: Sequence[Path], flag: str) -> list[Path]:
    """Return the files that paths stand for.

    A path is a file, a folder, which stands for all files in it, or a pattern ("logs/2024-*.csv").

    Args:
        paths: paths as the user types them.
        flag: option that names them, for messages.

    Returns:
        distinct paths in the order of the arguments, those of a folder or pattern by name.

    Raises:
        UserError: a path is no file, its folder has none, or nothing matches the pattern.
    """
    found: list[Path] = []
    for path in paths:
        check_path(flag, path)
        if path.is_dir():
            files = _in_folder(path)
            problem = "is a folder without files"
        elif path.exists() or not glob.has_magic(str(path)):
            files = [path] if path.is_file() else []
            problem = "does not exist or is not a file"
        else:
            matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207 - absolute too
            files = [
                file for match in matches for file in ([match] if match.is_file() else _in_folder(match))
            ]
            problem = "matches no file"
        if not files:
            raise UserError(f"{printable(str(path))} {problem}. Check {flag}.")
        found += files
    return list(dict.fromkeys(found))


def _in_folder(folder: Path) -> list[Path]:
    def is_shown(path: Path) -> bool:
        return not any(part.startswith(HIDDEN) for part in path.relative_to(folder).parts)

    return sorted(path for path in folder.rglob("*") if path.is_file() and is_shown(path))
