"""Kills, signals, a full disk and two commands at once, at random moments of every stage, and what is left after them.

A stage is a command on a toy data set. It runs in a process forked from this one, which has loaded all modules, so that the moments fall
into its work; signals also come while the modules of a fresh program load. After each trial
- what was there before is whole and usable, or the new is: the files of a data set belong together, a finished run has its weights;
- the same command, or `--resume`, comes to its end with the result of a command that was left alone, bit for bit;
- then nothing half-written and no process is left, and the exit code was the one that is promised.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}

import psutil  # noqa: E402

from benchmarks.torture_checks import leftovers, result, unsound  # noqa: E402
from maskgr_cli import app, console, signals  # noqa: E402
from pipelines import artifacts  # noqa: E402

MODEL = ["--preset", "smoke", "--sids", 2, "--codebook", 16]
TRAIN = ["train", *MODEL, "--steps", 12, "--validations", 3, "--name", "r", "--precision", "fp32"]
GRID = [
    "ablate",
    "--budget",
    "smoke",
    "--sids",
    2,
    "--codebook",
    16,
    "--steps",
    8,
    "--nfe",
    "1,2",
    "--beams",
    5,
]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
MODULES = (
    "download.tabular",
    "embed.build",
    "tokenize.build",
    "tokenize.kmeans",
    "prepare",
    "train.run",
    "train.tune",
    "evaluate.run",
)
MODULES = tuple(
    f"pipelines.{name}"
    for name in (*MODULES, "ablate.engine", "ablate.planning", "ablate.report", "ablate.results")
)
Command = Sequence[object]


@dataclass(frozen=True)
class Stage:
    """A command, the commands that prepare its workspace, and the one that goes on where it was killed (itself where None)."""

    command: Command
    before: list[Command] = field(default_factory=list)
    resumed: Command | None = None
    share: int = 1  # one of so many of the trials: processes that it starts take long to start


def stages(files: Path) -> dict[str, Stage]:
    """All stages, on interactions and items in `files`."""

    def imported(which: str) -> Command:
        return [
            "import",
            "toy",
            "--min-count",
            0,
            "--interactions",
            files / f"{which}.csv",
            "--items",
            files / "items.csv",
        ]

    data, sids = [imported("one")], [imported("one"), ["embed"], ["tokenize", "--sids", 2, "--codebook", 16]]
    run = [*sids, TRAIN, ["eval", "--beams", 5]]
    anew = [*TRAIN, "--seed", 1, "--force"]
    return {
        "import": Stage(imported("one")),
        "import over another": Stage(imported("two"), run),
        "import --force": Stage([*imported("one"), "--force"], run),
        "embed": Stage(["embed"], data),
        "embed --force": Stage(["embed", "--force"], run),
        "tokenize": Stage(["tokenize", "--sids", 2, "--codebook", 16], sids[:2]),
        "tokenize --force": Stage(["tokenize", "--sids", 2, "--codebook", 16, "--force"], run),
        "train": Stage(TRAIN, sids, ["train", "--resume", "--name", "r"]),
        "train --force": Stage(anew, run, ["train", "--resume", "--name", "r"]),
        "train --force twice": Stage(anew, run),
        "eval": Stage(["eval", "--beams", 10], run),
        "eval --force": Stage(["eval", "--beams", 5, "--force"], run),
        "ablate": Stage(GRID, sids),
        "ablate --jobs 2": Stage([*GRID, "--jobs", 2], sids, share=10),
        "train --processes 2": Stage(
            [*TRAIN, "--processes", 2], sids, ["train", "--resume", "--name", "r", "--processes", 2], share=10
        ),
        "tune": Stage(["tune", *MODEL, "--steps", 4, "--budget", 0.02, "--name", "s"], sids),
    }


def write_files(folder: Path) -> None:
    """The toy: item i is followed by item i + 1; the second log is shorter."""
    (folder / "items.csv").write_text(
        "item_id,text\n" + "".join(f"i{i},group {i // 10} number {i}\n" for i in range(60))
    )
    for name, users in (("one", 120), ("two", 90)):
        rows = (f"u{u},i{(7 * u + step) % 60},{step}\n" for u in range(users) for step in range(8))
        (folder / f"{name}.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))


@dataclass(frozen=True)
class Ready:
    """A stage's workspace before its command, and what the command takes, writes and results in where it is left alone."""

    root: Path
    seconds: float
    written: int  # bytes
    result: dict[str, str]


class Child:
    """A command in a forked process; its output goes to a file."""

    def __init__(self, act: Callable[[], object], log: Path) -> None:
        self.log = log
        self.pid = os.fork()
        if not self.pid:
            self._be(act)

    def _be(self, act: Callable[[], object]) -> None:
        out = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1), os.dup2(out, 2)
        code = 1
        try:
            signals.leave_at_once()
            act()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)

    def wait(self) -> int:
        """The exit code; negative: the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait_or(self, number: int, seconds: float) -> int:
        """The exit code of a process that gets a signal after so many seconds, if it still runs then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.001)
        started = psutil.Process(self.pid).children(recursive=True)
        os.kill(self.pid, number)
        code = self.wait()
        if alive := psutil.wait_procs(started, timeout=120)[1]:
            raise AssertionError(f"processes outlive the command: {alive}")
        return code

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Torture:
    """Runs trials and counts what became of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.files, self.log = folder / "files", folder / "log"
        self.files.mkdir()
        write_files(self.files)
        self.stages = stages(self.files)
        self.rows: list[tuple[str, int, int, int, int]] = []
        self.prepared: dict[str, Ready] = {}
        self.workspaces: dict[tuple[Command, ...], Path] = {(): folder / "workspace"}
        self.workspaces[()].mkdir()
        for module in MODULES:
            importlib.import_module(module)

    def run(self, root: Path, command: Command) -> Child:
        def act() -> None:
            sys.argv = ["maskgr", *map(str, command)]
            os.environ["MASKGR_WORKSPACE"] = str(root)
            app.main()

        return Child(act, self.log)

    def done(self, root: Path, command: Command) -> None:
        """Run a command that must succeed."""
        child = self.run(root, command)
        if code := child.wait():
            raise AssertionError(f"{command} ended with {code}: {child.said}")

    def workspace(self, commands: tuple[Command, ...]) -> Path:
        """A workspace after some commands, made once."""
        if commands not in self.workspaces:
            before = self.workspace(commands[:-1])
            root = self.folder / f"workspace {len(self.workspaces)}"
            shutil.copytree(before, root)
            self.done(root, commands[-1])
            self.workspaces[commands] = root
        return self.workspaces[commands]

    def checked(self, check: Callable[[Path], str | None], root: Path) -> None:
        """Fail with what a check finds; it runs in a process of its own, so that this one stays fit to be forked."""

        def act() -> None:
            if found := check(root):
                print(found)
                sys.exit(1)

        child = Child(act, self.log)
        if child.wait():
            raise AssertionError(child.said)

    def ready(self, name: str) -> Ready:
        """A stage, prepared once."""
        if name not in self.prepared:
            stage, done = self.stages[name], self.folder / f"{name} after"
            root = self.workspace(tuple(tuple(map(str, command)) for command in stage.before))
            shutil.rmtree(done, ignore_errors=True)  # of an attempt that failed
            shutil.copytree(root, done)
            began, when = time.monotonic(), time.time()
            self.done(done, stage.command)
            written = sum(stat.st_size for path in done.rglob("*") if (stat := path.stat()).st_mtime > when)
            self.prepared[name] = Ready(root, time.monotonic() - began, written, result(done))
        return self.prepared[name]

    def count(self, what: str, tries: int, trial: Callable[[Path], bool], name: str | None = None) -> None:
        """Try so often, each time in a workspace of its own; a trial tells whether the command came to its end, and raises for a fault."""
        ended, faults, tries = 0, 0, max(1, tries // (self.stages[name].share if name else 1))
        for number in range(tries):
            root = self.folder / "trial"
            try:
                if name:
                    shutil.copytree(self.ready(name).root, root)
                ended += trial(root)
            except AssertionError as error:
                faults += 1
                console.note(f"FAULT in {what}, trial {number}: {error}")
            finally:
                shutil.rmtree(root, ignore_errors=True)
        self.rows.append((what, tries, tries - ended - faults, ended, faults))
        console.note(
            f"{what}: {tries} tried, {tries - ended - faults} stopped, {ended} finished, {faults} faults"
        )

    def stopped(self, name: str, number: int, root: Path) -> bool:
        """One signal at a random moment of a stage, and all that must hold afterwards."""
        stage, seconds = self.stages[name], self.ready(name).seconds
        child = self.run(root, stage.command)
        code, said = child.wait_or(number, self.random.uniform(0, seconds)), child.said
        if code not in (0, CODES.get(number, -number)) or "Traceback" in said:
            raise AssertionError(f"exit code {code}: {said}")
        self.whole(name, root)
        return code == 0

    def whole(self, name: str, root: Path) -> None:
        """The workspace is sound, and the command comes to the same end as if nothing had happened."""
        stage, expected = self.stages[name], self.ready(name).result
        self.checked(unsound, root)
        resumed = (
            stage.resumed is not None
            and any(root.glob("runs/.r.anew/config.json"))
            or self.unfinished(root, name)
        )
        self.done(root, stage.resumed if stage.resumed and resumed else stage.command)
        self.checked(unsound, root)
        if left := leftovers(root):
            raise AssertionError(f"left behind: {left}")
        if expected != (found := result(root)):
            raise AssertionError(
                f"another result: {sorted(k for k in {*expected, *found} if expected.get(k) != found.get(k))}"
            )

    def unfinished(self, root: Path, name: str) -> bool:
        config = root / "runs" / "r" / "config.json"
        return (
            name.startswith("train")
            and config.exists()
            and artifacts.read_json(config)["state"] != "finished"
        )

    def loading(self, number: int, root: Path) -> bool:
        """A signal while the modules of a fresh program load."""
        command = [
            sys.executable,
            "-X",
            "importtime",
            "-m",
            "maskgr_cli",
            "train",
            "--dataset",
            "none",
            "--workspace",
            str(root),
        ]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            while "pipelines.orphans" not in process.stderr.readline():
                pass
            time.sleep(self.random.uniform(0, 1))
            process.send_signal(number)
            said = [line for line in process.stderr if not line.startswith("import time:")]
        if process.returncode not in (2, CODES[number]) or len(said) > 1:
            raise AssertionError(f"exit code {process.returncode}: {''.join(said)}")
        return process.returncode == 2

    def at_once(self, name: str, root: Path) -> bool:
        """Two commands at once."""
        first, second = self.run(root, self.stages[name].command), self.run(root, self.stages[name].command)
        codes = first.wait(), second.wait()
        if any(codes):
            raise AssertionError(f"exit codes {codes}: {second.said}")
        self.whole(name, root)
        return True

    def full(self, name: str, disk: Path, root: Path) -> bool:
        """A disk that is full before the command is done, then has room again."""
        place, ballast = disk / "workspace", disk / "ballast"
        shutil.copytree(root, place)
        try:
            room = self.random.randrange(0, self.ready(name).written + 50_000)
            free = shutil.disk_usage(disk).free
            ballast.write_bytes(bytes(max(0, free - room)))
            child = self.run(place, self.stages[name].command)
            code, said = child.wait(), child.said
            if code not in (0, 2) or "Traceback" in said or (code == 2 and "error: " not in said):
                raise AssertionError(f"exit code {code}: {said}")
            ballast.unlink()
            self.whole(name, place)
        finally:
            ballast.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
        return code == 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=40, help="trials of each stage")
    parser.add_argument("--stage", action="append", help="only this stage; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maskgr-torture-") as folder:
        rows = run(Path(folder), options.kills, options.seed, options.stage)
    console.table(
        "Kills, signals, full disks, two at once",
        ["stage", "tried", "stopped", "finished", "faults"],
        rows,
        artifacts.machine(),
    )
    sys.exit(any(row[-1] for row in rows))


def run(
    folder: Path, tries: int, seed: int, only: list[str] | None = None
) -> list[tuple[str, int, int, int, int]]:
    """All trials; a row each of what was tried, how often, how often stopped or refused, how often finished, and faults."""
    torture = Torture(folder, seed)
    names = [name for name in torture.stages if not only or name in only]
    for name in names:
        torture.count(
            f"SIGKILL, {name}",
            tries,
            lambda root, name=name: torture.stopped(name, signal.SIGKILL, root),
            name,
        )
    for number in CODES:
        for name in names:
            few = max(1, tries // 4)
            torture.count(
                f"{number.name}, {name}",
                few,
                lambda root, name=name, number=number: torture.stopped(name, number, root),
                name,
            )
        if not only:
            torture.count(
                f"{number.name}, while loading",
                tries,
                lambda root, number=number: torture.loading(number, root),
            )
    for name in names:
        torture.count(
            f"two at once, {name}",
            max(1, tries // 10),
            lambda root, name=name: torture.at_once(name, root),
            name,
        )
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(disk)], capture_output=True
    ).returncode:
        console.note("A full disk is not tried: this user may not mount one.")
        return torture.rows
    try:
        for name in names:
            torture.count(
                f"full disk, {name}",
                max(1, tries // 4),
                lambda root, name=name: torture.full(name, disk, root),
                name,
            )
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return torture.rows


if __name__ == "__main__":
    main()
