"""Mutation testing: the number of small changes of decoding, evaluation, models and training that no test of
these four packages notices.

One process imports the libraries, but not the program, and forks for every mutant. The child imports the
program with the one file changed, and runs tests until one fails, the quickest first: those that call the
changed function, or any function of the file if no test calls that one. So no file is written, and a mutant
costs one or two seconds besides its tests. Tests that start processes of their own are left out, since these
processes would run the unchanged program.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import itertools
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")

import pytest

from benchmarks.mutants.changes import Mutant, mutants, mutated

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = ("decode", "evaluate", "models", "train")
LIBRARIES = (
    *(
        "accelerate",
        "faiss",
        "hypothesis",
        "numpy",
        "optuna",
        "polars",
        "pyarrow.parquet",
        "safetensors.torch",
        "scipy.stats",
    ),
    *("sklearn.cluster", "torch", "transformers"),
)
MEMORY, WALL_SECONDS = 12 << 30, 3600  # limits of a child, in bytes and seconds
Functions = dict[str, list[int]]  # file → first lines of the functions that a test calls
Tests = dict[str, tuple[float, Functions]]  # test → its CPU seconds, and the functions that it calls


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.mutants")
    parser.add_argument("--count", type=int, default=400, help="number of mutants, sampled from all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="number of mutants at a time")
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        help="CPU seconds of tests per mutant, as measured without a change; the quickest first",
    )
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/mutants.json"
    )
    options = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    hypothesis = sys.modules["hypothesis"]
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    folders = [ROOT / "pipelines" / part for part in PARTS]
    paths = [str(path.relative_to(ROOT)) for folder in folders for path in sorted(folder.rglob("*.py"))]
    population = [mutant for path in paths for mutant in mutants(ROOT, path)]
    sample = random.Random(options.seed).sample(population, min(options.count, len(population)))
    sample.sort(key=lambda mutant: (mutant.path, mutant.line))
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        print(
            f"{len(population):,} mutants of {len(paths)} files, {len(sample)} of them sampled. "
            "The tests run once without a change.",
            flush=True,
        )
        tests = record(Path(folder))
        report = judge(sample, tests, options.seconds, options.jobs, Path(folder))
    figures = summary(report)
    print(
        f"{figures['killed']} of {figures['mutants']} killed, {figures['survived']} survived "
        f"({figures['survival rate']:.1%})."
    )
    if options.save:
        from benchmarks.common import save

        save("mutants", {**figures, "of": len(population), "seed": options.seed})


def summary(report: dict[Mutant, str]) -> dict[str, object]:
    """Return the figures, and the mutants that survived.

    Args:
        report: result of each mutant, as `judge` returns it.
    """
    survivors = [str(mutant) for mutant, result in report.items() if result == "survived"]
    killed = len(report) - len(survivors)
    return {
        "mutants": len(report),
        "killed": killed,
        "survived": len(survivors),
        "survival rate": len(survivors) / max(1, len(report)),
        "survivors": survivors,
    }


def record(folder: Path) -> Tests:
    """Run all tests once without a change, and return them with their CPU time and the functions they call.

    Raises:
        SystemExit: a test fails without a change.
    """
    file = folder / "tests.json"
    names = [f"tests/{part}" for part in PARTS]
    child = fork(lambda: run_tests(names, folder / "record", Recorder(file)), 3600)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(
            "Tests fail without a change, so that the results of mutants would have no meaning. Run the "
            "tests alone: python -m pytest tests/{decode,evaluate,models,train}"
        )
    return {name: (seconds, functions) for name, (seconds, functions) in json.loads(file.read_text()).items()}


class Recorder:
    """Pytest plugin that records the CPU time of each test and the functions of the program that it calls."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tests: Tests = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "maskgr" not in getattr(item, "fixturenames", ())]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        called: set[CodeType] = set()
        sys.setprofile(lambda frame, event, _: called.add(frame.f_code) if event == "call" else None)
        began = time.process_time()
        yield
        seconds = time.process_time() - began
        sys.setprofile(None)
        functions: Functions = {}
        for code in called:
            path = Path(code.co_filename)
            if path.is_relative_to(ROOT / "pipelines"):
                functions.setdefault(str(path.relative_to(ROOT)), []).append(code.co_firstlineno)
        self._tests[item.nodeid] = seconds, functions

    def pytest_sessionfinish(self) -> None:
        self._file.write_text(json.dumps(self._tests))


def covering(mutant: Mutant, tests: Tests, seconds: float) -> list[str]:
    """Return the names of the tests that call the changed function, the quickest first.

    If no test calls the function, or the change is outside functions, these are the tests that call any
    function of the file.

    Args:
        mutant: the change.
        tests: all tests.
        seconds: largest sum of their CPU time; the quickest test is always among them.
    """
    of_file = sorted((cost, name) for name, (cost, functions) in tests.items() if mutant.path in functions)
    of_function = [(cost, name) for cost, name in of_file if mutant.function in tests[name][1][mutant.path]]
    chosen = of_function or of_file
    sums = itertools.accumulate(cost for cost, _ in chosen)
    return [
        name
        for number, ((_, name), total) in enumerate(zip(chosen, sums, strict=True))
        if number == 0 or total <= seconds
    ]


def judge(sample: list[Mutant], tests: Tests, seconds: float, jobs: int, folder: Path) -> dict[Mutant, str]:
    """Run the tests of each mutant, and return its result: "killed", "survived" or "time".

    "time" means that the tests took far longer than without the change; it counts as killed.

    Args:
        sample: the mutants.
        tests: all tests.
        seconds: CPU seconds of tests per mutant.
        jobs: number of mutants at a time.
        folder: folder for the files of the tests.
    """
    waiting = list(enumerate(sample))
    running: dict[int, Mutant] = {}
    report: dict[Mutant, str] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, mutant = waiting.pop(0)
            names = covering(mutant, tests, seconds)
            cpu = 120 + 10 * sum(tests[name][0] for name in names)
            work = functools.partial(run_mutant, mutant, names, folder / str(number))
            running[fork(work, int(cpu))] = mutant
        child, status = os.wait()
        mutant, code = running.pop(child), os.waitstatus_to_exitcode(status)
        timed_out = code in (-signal.SIGXCPU, -signal.SIGALRM)
        report[mutant] = "survived" if code == 0 else "time" if timed_out else "killed"
        print(f"{report[mutant]:8} {mutant}", flush=True)
    return report


def fork(work: Callable[[], int], cpu: int) -> int:
    """Do work in a forked process without output, and return the id of the process.

    Args:
        work: returns the exit code.
        cpu: largest number of CPU seconds.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        signal.alarm(WALL_SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 10))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        code = work()
    finally:
        os._exit(code)


def run_mutant(mutant: Mutant, names: list[str], folder: Path) -> int:
    """Run tests with a change, and return their exit code; 0 if they pass, or if there are none."""
    sys.meta_path.insert(0, ChangedFinder(mutant))
    return run_tests(["-x", *names], folder) if names else 0


def run_tests(arguments: list[str], folder: Path, *plugins: object) -> int:
    """Run pytest in this process, and return its exit code.

    Args:
        arguments: arguments of pytest.
        folder: folder for temporary files.
        plugins: plugins of pytest.
    """
    os.chdir(ROOT)
    options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}"]
    return int(pytest.main([*options, *arguments], plugins=list(plugins)))


class ChangedFinder(MetaPathFinder):
    """Finder of the one module that is changed."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant, self._name = mutant, mutant.path.removesuffix(".py").replace("/", ".")

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of the changed module; None for other modules."""
        if name != self._name:
            return None
        file = str(ROOT / self._mutant.path)
        loader = ChangedLoader(self._mutant, name, file)
        return importlib.util.spec_from_file_location(name, file, loader=loader)


class ChangedLoader(SourceFileLoader):
    """Loader that compiles the changed file."""

    def __init__(self, mutant: Mutant, name: str, path: str) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(mutated(ROOT, self._mutant), self.path, "exec", dont_inherit=True)


if __name__ == "__main__":
    main()
