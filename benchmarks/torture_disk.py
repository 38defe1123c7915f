"""Trials of `benchmarks.torture` with a full disk, a read-only disk and missing files."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.torture import Torture


@contextmanager
def mounted(folder: Path) -> Iterator[Path | None]:
    """Yield a new file system in memory of 16 MiB, mounted on a folder; None where the user may not mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_disk(torture: Torture, disk: Path, name: str, root: Path) -> bool:
    """Run the command of a stage on a disk that becomes full before the end, then has space again.

    Args:
        disk: mounted file system.
        name: name of the stage.
        root: workspace to copy there.

    Returns:
        True if the command had space enough.
    """
    workspace, ballast = disk / "workspace", disk / "ballast"
    shutil.copytree(root, workspace)
    try:
        space = torture.random.randrange(0, torture.ready(name).written + 50_000)
        free = shutil.disk_usage(disk).free
        ballast.write_bytes(bytes(max(0, free - space)))
        finished = torture.try_command(name, workspace)
        ballast.unlink()
        torture.check_and_finish(name, workspace)
    finally:
        ballast.unlink(missing_ok=True)
        shutil.rmtree(workspace, ignore_errors=True)
    return finished


def protect_disk(torture: Torture, disk: Path, name: str, root: Path) -> bool:
    """Run the command of a stage on a read-only disk, then on the same disk with writing allowed.

    Args:
        disk: mounted file system.
        name: name of the stage.
        root: workspace to copy there.

    Returns:
        True if the command had nothing to write.
    """
    workspace = disk / "workspace"
    shutil.copytree(root, workspace)
    try:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        try:
            finished = torture.try_command(name, workspace)
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        torture.check_and_finish(name, workspace)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return finished


def lose_file(torture: Torture, name: str, root: Path) -> bool:
    """Take a file away from a stage, before its command or at a random moment, and give it back afterwards.

    Args:
        name: name of the stage.
        root: workspace.

    Returns:
        True if the command succeeded without the file.
    """
    files = sorted(path for folder in (root, torture.files) for path in folder.rglob("*") if path.is_file())
    path, away = torture.random.choice(files), root.with_name("away")
    seconds = torture.random.choice((0.0, torture.random.uniform(0, torture.ready(name).seconds)))

    def take() -> None:
        time.sleep(seconds)
        if path.exists():
            path.rename(away)

    try:
        if seconds:
            finished = torture.try_command(name, root, take)
        else:
            take()
            finished = torture.try_command(name, root)
    except AssertionError as error:
        raise AssertionError(f"without {path} after {seconds:.2f} s: {error}") from None
    finally:
        if away.exists() and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            away.rename(path)
        away.unlink(missing_ok=True)
    torture.check_and_finish(name, root)
    return finished
