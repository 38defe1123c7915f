"""Kills, signals, full and read-only disks, missing files and simultaneous commands, at random moments of
every stage, and checks of what is left after them.

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
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}

from benchmarks.torture_checks import find_fault, leftovers, result_digests  # noqa: E402 - after the environment
from benchmarks.torture_disk import fill_disk, lose_file, mounted, protect_disk  # noqa: E402 - after the environment
from benchmarks.torture_nodes import stop_nodes  # noqa: E402 - after the environment
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
        "bundle.build",
        "bundle.read",
        "export.build",
        "import_.listed",
        "recommend.everyone",
        "recommend.load",
    )
)
Row = tuple[str, int, int, int, int]  # trial, number tried, stopped or refused, finished, faults


class Torture:
    """Runs trials and counts their results.

    Attributes:
        stages: stages by name.
        rows: a row for each kind of trial.
        files: folder of the source files.
        random: random numbers of the moments.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        """
        Args:
            folder: empty folder for everything that the trials write.
            seed: seed of the random moments.
        """
        self.rows: list[Row] = []
        self._folder, self.random = folder, random.Random(seed)
        self._log = folder / "log"
        self.files = folder / "files"
        self.files.mkdir()
        write_files(self.files)
        self.stages = stages(self.files)
        self._ready_stages: dict[str, ReadyStage] = {}
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
                    shutil.copytree(self.ready(stage).root, root)
                finished += trial(root)
            except AssertionError as error:
                faults += 1
                console.note(f"FAULT in {trial_name}, trial {number}: {error}")
            finally:
                shutil.rmtree(root, ignore_errors=True)
        stopped = tries - finished - faults
        self.rows.append((trial_name, tries, stopped, finished, faults))
        console.note(f"{trial_name}: {tries} tried, {stopped} stopped, {finished} finished, {faults} faults")

    def stop(self, number: int, name: str, root: Path) -> bool:
        """Send a signal at a random moment of a stage, and check the workspace afterwards.

        Args:
            number: number of the signal.
            name: name of the stage.
            root: workspace.
        """
        stage, seconds = self.stages[name], self.ready(name).seconds
        child = self.start(root, stage.command, stage.prepare)
        code, output = child.wait_or_signal(number, self.random.uniform(0, seconds)), child.output
        if code not in (0, EXIT_CODES.get(number, -number)) or "Traceback" in output:
            raise AssertionError(f"exit code {code}: {output}")
        self.check_and_finish(name, root)
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
            time.sleep(self.random.uniform(0, 1))
            process.send_signal(number)
            messages = [line for line in process.stderr if not line.startswith("import time:")]
        if process.returncode not in (2, EXIT_CODES[number]) or len(messages) > 1:
            raise AssertionError(f"exit code {process.returncode}: {''.join(messages)}")
        return process.returncode == 2

    def run_twice_at_once(self, name: str, root: Path) -> bool:
        """Run the command of a stage twice at the same time."""
        stage = self.stages[name]
        first, second = (self.start(root, stage.command, stage.prepare) for _ in range(2))
        codes = first.wait(), second.wait()
        if any(codes):
            raise AssertionError(f"exit codes {codes}: {second.output}")
        self.check_and_finish(name, root)
        return True

    def try_command(self, name: str, root: Path, act: Callable[[], None] = lambda: None) -> bool:
        """Run the command of a stage, which either succeeds or ends with one line and exit code 2.

        Args:
            name: name of the stage.
            root: workspace.
            act: function that is called while the command works.

        Returns:
            True if it succeeded.
        """
        child = self.start(root, self.stages[name].command, self.stages[name].prepare)
        act()
        code, output = child.wait(), child.output
        said = sum(line.startswith("error: ") for line in output.splitlines())
        if code not in (0, 2) or said != (code == 2) or "Traceback" in output:
            raise AssertionError(f"exit code {code}: {output}")
        return code == 0

    def start(self, root: Path, command: Command, prepare: Callable[[], None] = lambda: None) -> Child:
        def act() -> None:
            prepare()
            os.chdir(root)
            sys.argv = ["maskgr", *map(str, command)]
            os.environ["MASKGR_WORKSPACE"] = str(root)
            app.main()

        return Child(act, self._log)

    def run(self, root: Path, command: Command, prepare: Callable[[], None] = lambda: None) -> None:
        """Run a command that must succeed."""
        child = self.start(root, command, prepare)
        if code := child.wait():
            raise AssertionError(f"{command} ended with {code}: {child.output}")

    def _workspace(self, commands: tuple[Command, ...]) -> Path:
        """Return a workspace after some commands, which is made once."""
        if commands not in self._workspaces:
            before = self._workspace(commands[:-1])
            root = self._folder / f"workspace {len(self._workspaces)}"
            shutil.copytree(before, root)
            self.run(root, commands[-1])
            self._workspaces[commands] = root
        return self._workspaces[commands]

    def ready(self, name: str) -> ReadyStage:
        """Prepare a stage, once, and return it."""
        if name not in self._ready_stages:
            stage, finished = self.stages[name], self._folder / f"{name} after"
            root = self._workspace(tuple(tuple(map(str, command)) for command in stage.before))
            shutil.rmtree(finished, ignore_errors=True)  # of an attempt that failed
            shutil.copytree(root, finished)
            began, when = time.monotonic(), time.time()
            self.run(finished, stage.command, stage.prepare)
            written = sum(
                stat.st_size for path in finished.rglob("*") if (stat := path.stat()).st_mtime > when
            )
            seconds = time.monotonic() - began
            self._ready_stages[name] = ReadyStage(root, seconds, written, result_digests(finished))
        return self._ready_stages[name]

    def check(self, root: Path) -> None:
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

    def check_and_finish(self, name: str, root: Path) -> None:
        """Check that the workspace has no fault, and that the command finishes with the expected result.

        Raises:
            AssertionError: the workspace has a fault, or the result is another.
        """
        stage, expected = self.stages[name], self.ready(name).digests
        self.check(root)
        resumes = (
            stage.resumed is not None
            and any(root.glob("runs/.r.anew/config.json"))
            or self._has_unfinished_run(root, name)
        )
        self.run(root, stage.resumed if stage.resumed and resumes else stage.command, stage.prepare)
        self.check(root)
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


KILL, SIGNAL, TWICE, DISK, PROTECTED, VANISHED = "kill", "signal", "twice", "disk", "read-only", "vanished"
KINDS = (KILL, SIGNAL, TWICE, DISK, PROTECTED, VANISHED)  # of trials
LOADING = "loading"  # not a stage: signals while the modules of a fresh program load
MACHINES = "two machines"  # not a stage: signals to a training of two machines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=40, help="number of trials of each stage")
    parser.add_argument(
        "--stage", action="append", help=f"only this stage, {LOADING} or {MACHINES}; may be repeated"
    )
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these trials; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maskgr-torture-") as folder:
        rows = run(Path(folder), options.kills, options.seed, options.stage, options.kind or KINDS)
    columns = ["stage", "tried", "stopped", "finished", "faults"]
    title = "Kills, signals, full disks, simultaneous commands, missing files"
    console.table(title, columns, rows, artifacts.machine())
    sys.exit(any(row[-1] for row in rows))


def run(
    folder: Path, tries: int, seed: int, only: list[str] | None = None, kinds: Sequence[str] = KINDS
) -> list[Row]:
    """Run all trials, and return a row for each stage and kind.

    Args:
        folder: empty folder.
        tries: number of kills of each stage; other trials are fewer.
        seed: seed of the random moments.
        only: names of the stages to try; None for all.
        kinds: kinds of trials.
    """
    torture = Torture(folder, seed)
    names = [name for name in torture.stages if not only or name in only]

    def count(title: str, share: int, trial: Callable[[str, Path], bool]) -> None:
        for name in names:
            torture.count(f"{title}, {name}", max(1, tries // share), functools.partial(trial, name), name)

    if KILL in kinds:
        count("SIGKILL", 1, functools.partial(torture.stop, signal.SIGKILL))
    for number in map(signal.Signals, EXIT_CODES if SIGNAL in kinds else ()):
        count(number.name, 4, functools.partial(torture.stop, number))
        if not only or LOADING in only:
            trial = functools.partial(torture.stop_while_loading, number)
            torture.count(f"{number.name}, while loading", tries, trial)
    if TWICE in kinds:
        count("two at once", 10, torture.run_twice_at_once)
    for number, kind in {signal.SIGKILL: KILL, signal.SIGTERM: SIGNAL}.items():
        if kind in kinds and (not only or MACHINES in only):
            trial = functools.partial(stop_nodes, torture, number)
            torture.count(f"{number.name}, two machines", max(1, tries // 10), trial)
    if VANISHED in kinds:
        count("missing file", 4, functools.partial(lose_file, torture))
    if DISK in kinds or PROTECTED in kinds:
        with mounted(folder / "disk") as disk:
            if disk is None:
                console.note("A full or read-only disk is not tried: this user may not mount a file system.")
                return torture.rows
            if DISK in kinds:
                count("full disk", 4, functools.partial(fill_disk, torture, disk))
            if PROTECTED in kinds:
                count("read-only disk", 10, functools.partial(protect_disk, torture, disk))
    return torture.rows


if __name__ == "__main__":
    main()
