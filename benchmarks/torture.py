"""Kills, signals, a full disk and simultaneous commands, at random moments of every stage, and checks of what
is left after them.

A stage is a command on a toy data set. It runs in a process forked from this one, which has loaded all
modules, so that the moments fall into its work. Signals are also sent while the modules of a fresh program
load. After each trial:

- Either the old artifacts are complete and usable, or the new ones are. The files of a data set belong
  together, and a finished run has its weights.
- The same command, or `--resume`, finishes with the result of an undisturbed command, bit for bit.
- Then no partial file and no process is left, and the exit code was the documented one.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}

from benchmarks.torture_checks import find_fault, leftovers, result_digests  # noqa: E402 - after the environment
from benchmarks.torture_process import Child  # noqa: E402 - after the environment
from benchmarks.torture_stages import Command, ReadyStage, stages, write_files  # noqa: E402 - after the environment
from maskgr_cli import app, console  # noqa: E402 - after the environment
from pipelines import artifacts  # noqa: E402 - after the environment

EXIT_CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
MODULES = tuple(
    f"pipelines.{name}"
    for name in (
        "import_.build",
        "embed.build",
        "tokenize.build",
        "tokenize.kmeans",
        "prepare.dataset",
        "train.run",
        "train.tune",
        "evaluate.run",
        "ablate.engine",
        "ablate.planning",
        "ablate.report",
        "ablate.results",
    )
)
Row = tuple[str, int, int, int, int]  # trial, number tried, stopped or refused, finished, faults


class Torture:
    """Runs trials and counts their results.

    Attributes:
        stages: stages by name.
        rows: a row for each kind of trial.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        """
        Args:
            folder: empty folder for everything that the trials write.
            seed: seed of the random moments.
        """
        self.rows: list[Row] = []
        self._folder, self._random = folder, random.Random(seed)
        self._log = folder / "log"
        files = folder / "files"
        files.mkdir()
        write_files(files)
        self.stages = stages(files)
        self._ready: dict[str, ReadyStage] = {}
        self._workspaces: dict[tuple[Command, ...], Path] = {(): folder / "workspace"}
        self._workspaces[()].mkdir()
        for module in MODULES:
            importlib.import_module(module)

    def count(
        self, trial_name: str, tries: int, trial: Callable[[Path], bool], stage: str | None = None
    ) -> None:
        """Run a trial several times, each time in a workspace of its own, and add a row.

        Args:
            trial_name: name of the trial.
            tries: number of trials.
            trial: returns true if the command finished, and raises AssertionError for a fault.
            stage: name of the stage; None for a trial without one.
        """
        finished, faults = 0, 0
        tries = max(1, tries // (self.stages[stage].share if stage else 1))
        for number in range(tries):
            root = self._folder / "trial"
            try:
                if stage:
                    shutil.copytree(self._prepare(stage).root, root)
                finished += trial(root)
            except AssertionError as error:
                faults += 1
                console.note(f"FAULT in {trial_name}, trial {number}: {error}")
            finally:
                shutil.rmtree(root, ignore_errors=True)
        stopped = tries - finished - faults
        self.rows.append((trial_name, tries, stopped, finished, faults))
        console.note(f"{trial_name}: {tries} tried, {stopped} stopped, {finished} finished, {faults} faults")

    def stop(self, name: str, number: int, root: Path) -> bool:
        """Send a signal at a random moment of a stage, and check the workspace afterwards.

        Args:
            name: name of the stage.
            number: number of the signal.
            root: workspace.
        """
        stage, seconds = self.stages[name], self._prepare(name).seconds
        child = self._start(root, stage.command)
        code, output = child.wait_or_signal(number, self._random.uniform(0, seconds)), child.output
        if code not in (0, EXIT_CODES.get(number, -number)) or "Traceback" in output:
            raise AssertionError(f"exit code {code}: {output}")
        self._check_and_finish(name, root)
        return code == 0

    def stop_while_loading(self, number: int, root: Path) -> bool:
        """Send a signal while the modules of a fresh program load.

        Args:
            number: number of the signal.
            root: workspace.
        """
        command = [sys.executable, "-X", "importtime", "-m", "maskgr_cli"]
        command += ["train", "--dataset", "none", "--workspace", str(root)]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr
            while "pipelines.orphans" not in process.stderr.readline():
                pass
            time.sleep(self._random.uniform(0, 1))
            process.send_signal(number)
            messages = [line for line in process.stderr if not line.startswith("import time:")]
        if process.returncode not in (2, EXIT_CODES[number]) or len(messages) > 1:
            raise AssertionError(f"exit code {process.returncode}: {''.join(messages)}")
        return process.returncode == 2

    def run_twice_at_once(self, name: str, root: Path) -> bool:
        """Run the command of a stage twice at the same time."""
        first = self._start(root, self.stages[name].command)
        second = self._start(root, self.stages[name].command)
        codes = first.wait(), second.wait()
        if any(codes):
            raise AssertionError(f"exit codes {codes}: {second.output}")
        self._check_and_finish(name, root)
        return True

    def fill_disk(self, name: str, disk: Path, root: Path) -> bool:
        """Run the command of a stage on a disk that becomes full before the end, then has space again.

        Args:
            name: name of the stage.
            disk: mounted file system.
            root: workspace to copy there.
        """
        workspace, ballast = disk / "workspace", disk / "ballast"
        shutil.copytree(root, workspace)
        try:
            space = self._random.randrange(0, self._prepare(name).written + 50_000)
            free = shutil.disk_usage(disk).free
            ballast.write_bytes(bytes(max(0, free - space)))
            child = self._start(workspace, self.stages[name].command)
            code, output = child.wait(), child.output
            if code not in (0, 2) or "Traceback" in output or (code == 2 and "error: " not in output):
                raise AssertionError(f"exit code {code}: {output}")
            ballast.unlink()
            self._check_and_finish(name, workspace)
        finally:
            ballast.unlink(missing_ok=True)
            shutil.rmtree(workspace, ignore_errors=True)
        return code == 0

    def _start(self, root: Path, command: Command) -> Child:
        def act() -> None:
            sys.argv = ["maskgr", *map(str, command)]
            os.environ["MASKGR_WORKSPACE"] = str(root)
            app.main()

        return Child(act, self._log)

    def _run(self, root: Path, command: Command) -> None:
        """Run a command that must succeed."""
        child = self._start(root, command)
        if code := child.wait():
            raise AssertionError(f"{command} ended with {code}: {child.output}")

    def _workspace(self, commands: tuple[Command, ...]) -> Path:
        """Return a workspace after some commands, which is made once."""
        if commands not in self._workspaces:
            before = self._workspace(commands[:-1])
            root = self._folder / f"workspace {len(self._workspaces)}"
            shutil.copytree(before, root)
            self._run(root, commands[-1])
            self._workspaces[commands] = root
        return self._workspaces[commands]

    def _prepare(self, name: str) -> ReadyStage:
        """Prepare a stage, once."""
        if name not in self._ready:
            stage, finished = self.stages[name], self._folder / f"{name} after"
            root = self._workspace(tuple(tuple(map(str, command)) for command in stage.before))
            shutil.rmtree(finished, ignore_errors=True)  # of an attempt that failed
            shutil.copytree(root, finished)
            began, when = time.monotonic(), time.time()
            self._run(finished, stage.command)
            written = sum(
                stat.st_size for path in finished.rglob("*") if (stat := path.stat()).st_mtime > when
            )
            seconds = time.monotonic() - began
            self._ready[name] = ReadyStage(root, seconds, written, result_digests(finished))
        return self._ready[name]

    def _check(self, root: Path) -> None:
        """Check a workspace, in a process of its own, since this process must stay fit to be forked.

        Raises:
            AssertionError: the workspace has a fault.
        """

        def act() -> None:
            if fault := find_fault(root):
                print(fault)
                sys.exit(1)

        child = Child(act, self._log)
        if child.wait():
            raise AssertionError(child.output)

    def _check_and_finish(self, name: str, root: Path) -> None:
        """Check that the workspace has no fault, and that the command finishes with the expected result.

        Raises:
            AssertionError: the workspace has a fault, or the result is another.
        """
        stage, expected = self.stages[name], self._prepare(name).digests
        self._check(root)
        resumes = (
            stage.resumed is not None
            and any(root.glob("runs/.r.anew/config.json"))
            or self._has_unfinished_run(root, name)
        )
        self._run(root, stage.resumed if stage.resumed and resumes else stage.command)
        self._check(root)
        if files := leftovers(root):
            raise AssertionError(f"left behind: {files}")
        if expected != (result := result_digests(root)):
            differing = sorted(k for k in {*expected, *result} if expected.get(k) != result.get(k))
            raise AssertionError(f"another result: {differing}")

    def _has_unfinished_run(self, root: Path, name: str) -> bool:
        config = root / "runs" / "r" / "config.json"
        return (
            name.startswith("train")
            and config.exists()
            and artifacts.read_json(config)["state"] != "finished"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=40, help="number of trials of each stage")
    parser.add_argument("--stage", action="append", help="only this stage, or loading; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maskgr-torture-") as folder:
        rows = run(Path(folder), options.kills, options.seed, options.stage)
    columns = ["stage", "tried", "stopped", "finished", "faults"]
    title = "Kills, signals, full disks, simultaneous commands"
    console.table(title, columns, rows, artifacts.machine())
    sys.exit(any(row[-1] for row in rows))


LOADING = "loading"  # not a stage: signals while the modules of a fresh program load


def run(folder: Path, tries: int, seed: int, only: list[str] | None = None) -> list[Row]:
    """Run all trials, and return a row for each kind.

    Args:
        folder: empty folder.
        tries: number of kills of each stage; other trials are fewer.
        seed: seed of the random moments.
        only: names of the stages to try; None for all.
    """
    torture = Torture(folder, seed)
    names = [name for name in torture.stages if not only or name in only]
    for name in names:
        trial = functools.partial(torture.stop, name, signal.SIGKILL)
        torture.count(f"SIGKILL, {name}", tries, trial, name)
    for number in map(signal.Signals, EXIT_CODES):
        for name in names:
            trial = functools.partial(torture.stop, name, number)
            torture.count(f"{number.name}, {name}", max(1, tries // 4), trial, name)
        if not only or LOADING in only:
            trial = functools.partial(torture.stop_while_loading, number)
            torture.count(f"{number.name}, while loading", tries, trial)
    for name in names:
        trial = functools.partial(torture.run_twice_at_once, name)
        torture.count(f"two at once, {name}", max(1, tries // 10), trial, name)
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        console.note("A full disk is not tried: this user may not mount a file system.")
        return torture.rows
    try:
        for name in names:
            trial = functools.partial(torture.fill_disk, name, disk)
            torture.count(f"full disk, {name}", max(1, tries // 4), trial, name)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    return torture.rows


if __name__ == "__main__":
    main()
