"""Replaced whole or not at all: a kill at any moment, what it leaves, and two processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipelines import durable
from pipelines.errors import UserError
from pipelines.workspace import Workspace
from tests.conftest import ROOT


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs `code` and has said "ready"."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


HOLDS = """
    import sys
    from pathlib import Path
    from pipelines import durable
    with durable.staging(Path(sys.argv[1])) as folder:
        (folder / "half").write_text("half")
        print("ready", flush=True)
        sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_command_left_goes_and_what_a_live_one_has_stays(tmp_path: Path) -> None:
    live, killed = start(HOLDS, tmp_path), start(HOLDS, tmp_path)
    kill(killed)
    assert len(names(tmp_path)) == 2
    (tmp_path / ".mine.tmp").write_text("not of maskgr")
    with durable.atomic(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert len(list(tmp_path.glob(".maskgr-*"))) == 1
    live.communicate("")
    assert names(tmp_path) == [".mine.tmp", "file"]


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_a_kill_between_two_moves_mixes_nothing(workspace: Workspace, moves: int) -> None:
    """The old three until the new three are whole, then the new three; what else the folder holds stays."""
    folder = workspace.dataset("toy").path
    (folder / "sids").mkdir(parents=True)
    for name in ("a", "b", "c", "own"):
        (folder / name).write_text("old")
    code = f"""
        import os, sys
        from pathlib import Path
        from pipelines import durable
        replace, left = Path.replace, [{moves}]
        def counted(self, target):
            if not left[0]:
                print("ready", flush=True)
                sys.stdin.read()
            left[0] -= 1
            return replace(self, target)
        Path.replace = counted
        with durable.together(Path(sys.argv[1])) as new:
            for name in "abc":
                (new / name).write_text("new")
        print("ready", flush=True)
        sys.stdin.read()
    """
    kill(start(code, folder))
    Workspace.find(workspace.root)  # as every command does first
    assert {name: (folder / name).read_text() for name in ("a", "b", "c", "own")} == {
        "a": "new",
        "b": "new",
        "c": "new",
        "own": "old",
    }
    assert names(folder) == ["a", "b", "c", "own", "sids"]
    with durable.together(folder) as new:
        (new / "a").write_text("newest")
    assert names(folder.parent) == ["toy"]


def test_folders_take_the_place_of_folders(tmp_path: Path) -> None:
    for where, what in (("old", "a"), ("new", "b")):
        (tmp_path / where / "logs").mkdir(parents=True)
        (tmp_path / where / "logs" / what).write_text(what)
    (tmp_path / "old" / "eval").mkdir()
    durable.install(tmp_path / "new", tmp_path / "old")
    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == ["eval", "logs"]
    assert names(tmp_path / "old" / "logs") == ["b"]


def test_a_whole_folder_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the old content stays; a kill between the two renames loses neither."""
    place = tmp_path / "bundle"
    for name in ("old", "new"):
        with durable.whole(place) as folder:
            (folder / name).write_text(name)
    assert [path.name for path in place.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    with pytest.raises(ZeroDivisionError), durable.whole(place) as folder:
        (folder / "newer").write_text(str(1 / 0))
    assert [path.name for path in place.iterdir()] == ["new"]
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if target == place:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt), durable.whole(place) as folder:
            (folder / "newer").write_text("newer")
    assert (tmp_path / ".bundle.replaced" / "new").read_text() == "new"
    with durable.whole(place) as folder:
        (folder / "newest").write_text("newest")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_whole_folder_does_not_take_the_place_of_what_came_meanwhile(tmp_path: Path) -> None:
    place = tmp_path / "bundle"

    def refuse() -> None:
        if place.exists():
            raise UserError("there is one")

    with pytest.raises(UserError, match="there is one"), durable.whole(place, refuse) as folder:
        (folder / "mine").write_text("mine")
        with durable.whole(place, refuse) as other:
            (other / "other").write_text("other")
    assert [path.name for path in place.iterdir()] == ["other"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("moves", range(4))
def test_files_move_into_a_folder_beside_those_it_has(tmp_path: Path, moves: int) -> None:
    """After a kill between two moves, the next command completes them."""
    folder = tmp_path / "toy"
    (folder / "sids").mkdir(parents=True)
    for name in ("sids/own", "sids/b", "items"):
        (folder / name).write_text("old")
    code = f"""
        import sys
        from pathlib import Path
        from pipelines import durable
        replace, left = Path.replace, [{moves}]
        def counted(self, target):
            if not left[0]:
                print("ready", flush=True)
                sys.stdin.read()
            left[0] -= 1
            return replace(self, target)
        Path.replace = counted
        with durable.together(Path(sys.argv[1])) as new:
            durable.inside(new, "sids").mkdir()
            for path in (durable.inside(new, "sids") / "a", durable.inside(new, "sids") / "b", new / "items"):
                path.write_text("new")
        print("ready", flush=True)
        sys.stdin.read()
    """
    kill(start(code, folder))
    durable.finish_installs(tmp_path)
    assert {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()} == {
        "own": "old",
        "a": "new",
        "b": "new",
        "items": "new",
    }
    assert names(folder) == ["items", "sids"]


LOCKS = """
    import sys
    from pathlib import Path
    from pipelines import durable
    with durable.locked(Path(sys.argv[1]), lambda: print("ready", flush=True)):
        (Path(sys.argv[1]) / sys.argv[2]).write_text("")
        print("ready", flush=True)
        sys.stdin.read()
"""


def test_the_second_waits_for_the_first_however_that_ends(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "r"
    first = start(LOCKS, folder, "first")
    second = start(LOCKS, folder, "second")  # it waits
    assert names(folder) == ["first"]
    kill(first)
    assert second.communicate("")[0] == "ready\n"
    assert names(folder) == ["first", "second"]


def test_a_lock_on_nothing_leaves_nothing(tmp_path: Path) -> None:
    with durable.locked(tmp_path / "runs" / "r"):
        assert (tmp_path / "runs" / "r").is_dir()
    assert names(tmp_path / "runs") == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("of a library")])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(
            UserError,
            match=r"x cannot be written in .*/deep \(.*\)\. Free space there, allow writing, or name another",
        ),
        durable.atomic(tmp_path / "deep" / "x", KeyError),
    ):
        raise error
    assert names(tmp_path / "deep") == []


def test_what_cannot_be_read_is_not_said_to_be_written(tmp_path: Path) -> None:
    """An input that vanishes while something is made of it."""
    with pytest.raises(FileNotFoundError, match="input"), durable.atomic(tmp_path / "made" / "x"):
        (tmp_path / "input").read_bytes()
    with pytest.raises(UserError, match="x cannot be written"), durable.atomic(tmp_path / "made" / "x"):
        (tmp_path / "made" / "gone").read_bytes()


def test_a_workspace_that_is_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"link, a link to .*/nothing, which does not exist"):
        Workspace.find(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_workspace_that_may_only_be_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"), durable.atomic(tmp_path / "x") as temporary:
        temporary.write_text("")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("steps", range(8))
def test_a_kill_between_two_changes_makes_all_or_none(workspace: Workspace, steps: int) -> None:
    """A folder is renamed and two files are replaced; `steps` renames of paths happen before the kill."""
    root = workspace.root
    for path in ("runs/a/old", "runs/a/config", "other"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("old")
    code = f"""
        import sys
        from pathlib import Path
        from pipelines import durable
        left = [{steps}]
        def counted(function):
            def call(self, target):
                if not left[0]:
                    print("ready", flush=True)
                    sys.stdin.read()
                left[0] -= 1
                return function(self, target)
            return call
        Path.rename, Path.replace = counted(Path.rename), counted(Path.replace)
        root = Path(sys.argv[1])
        with durable.changes(root) as made:
            made.rename(root / "runs" / "a", root / "runs" / "b")
            made.rename(root / "runs" / "none", root / "runs" / "c")
            made.replace(root / "runs" / "b" / "config").write_text("new")
            made.replace(root / "other").write_text("new")
        print("ready", flush=True)
        sys.stdin.read()
    """
    kill(start(code, root))
    Workspace.find(root)  # as every command does first
    is_made = (root / "runs" / "b").exists()
    assert is_made == (steps > 0)  # the first rename decides
    folder, content = ("b", "new") if is_made else ("a", "old")
    assert names(root / "runs") == [folder]
    texts = [(root / "runs" / folder / name).read_text() for name in ("old", "config")]
    assert [*texts, (root / "other").read_text()] == ["old", content, content]
    workspace.use("toy")  # removes what is left
    assert names(root) == ["other", "runs", "workspace.json"]


def test_changes_of_a_block_that_fails_are_not_made(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyError), durable.changes(tmp_path) as made:
        made.rename(tmp_path / "a", tmp_path / "b")
        made.replace(tmp_path / "b").write_text("new")
        raise KeyError
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_replaced_file_keeps_the_time_of_the_new_content(tmp_path: Path) -> None:
    with durable.changes(tmp_path) as made:
        new = made.replace(tmp_path / "deep" / "a")
        new.write_text("new")
        os.utime(new, ns=(3, 4))
    assert (tmp_path / "deep" / "a").stat().st_mtime_ns == 4


def test_a_lock_is_seen_from_outside(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "r"
    assert not durable.is_locked(folder)
    with durable.locked(folder):
        assert durable.is_locked(folder)
        (folder / "file").write_text("")
    assert not durable.is_locked(folder)


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    claim = tmp_path / "jobs" / "a.lock"
    other = start(
        """
        import sys
        from pathlib import Path
        from pipelines.durable import claimed
        with claimed(Path(sys.argv[1])):
            print("ready", flush=True)
            sys.stdin.read()
        """,
        claim,
    )
    assert durable.is_claimed(claim)
    waited = []

    def waiting() -> None:
        waited.append(True)
        kill(other)

    with durable.claimed(claim, waiting):  # the killed process left the file, without its lock
        assert waited == [True]
        assert durable.is_claimed(claim)
    assert not claim.exists()
    assert not durable.is_claimed(claim)
