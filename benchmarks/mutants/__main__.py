"""How many small changes of decoding, evaluation, models and training the tests of these four would not notice.

One process imports the libraries, not the program, and forks for every mutant: the child imports the program, with the one file
changed, and runs the tests that call the changed function (or one of the file's functions, where none does), the quickest first,
until one fails. So no file is written, and a mutant costs a second or two beside its tests. Tests that start processes of
their own are left out: those would run the program as it is.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

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
MEMORY, WALL = 12 << 30, 3600  # bytes and seconds that a child may take
Functions = dict[str, list[int]]  # file → first lines of the functions that a test calls
Tests = dict[str, tuple[float, Functions]]  # test → seconds of a processor that it takes, and what it calls


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.mutants")
    parser.add_argument("--count", type=int, default=400, help="mutants drawn at random from all")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument(
        "--seconds",
        type=float,
        default=60,
        help="of tests a mutant, by what they take without it, the quickest first",
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
    paths = [
        str(path.relative_to(ROOT))
        for part in PARTS
        for path in sorted((ROOT / "pipelines" / part).glob("*.py"))
    ]
    every = [mutant for path in paths for mutant in mutants(ROOT, path)]
    drawn = sorted(
        random.Random(options.seed).sample(every, min(options.count, len(every))),
        key=lambda one: (one.path, one.line),
    )
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        print(
            f"{len(every):,} mutants of {len(paths)} files, {len(drawn)} of them drawn. The tests run once without a change.",
            flush=True,
        )
        tests = record(Path(folder))
        report = judge(drawn, tests, options.seconds, options.jobs, Path(folder))
    figures = summary(report)
    print(
        f"{figures['killed']} of {figures['mutants']} killed, {figures['survived']} survived ({figures['survival rate']:.1%})."
    )
    if options.save:
        from benchmarks.common import save

        save("mutants", {**figures, "of": len(every), "seed": options.seed})


def summary(report: dict[Mutant, str]) -> dict[str, object]:
    """The figures, and the survivors by place."""
    survivors = [str(mutant) for mutant, end in report.items() if end == "survived"]
    killed = len(report) - len(survivors)
    return {
        "mutants": len(report),
        "killed": killed,
        "survived": len(survivors),
        "survival rate": len(survivors) / max(1, len(report)),
        "survivors": survivors,
    }


def record(folder: Path) -> Tests:
    """Run all tests once, as they are.

    Raises:
        SystemExit: a test fails without a change.
    """
    written = folder / "tests.json"
    child = fork(
        lambda: run_tests([f"tests/{part}" for part in PARTS], folder / "record", Recorder(written)), 3600
    )
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(
            "Tests fail without a change; mutants would tell nothing. Run them alone: python -m pytest tests/{decode,evaluate,models,train}"
        )
    return {
        name: (seconds, functions) for name, (seconds, functions) in json.loads(written.read_text()).items()
    }


class Recorder:
    """A pytest plugin that notes which functions of the program each test calls."""

    def __init__(self, written: Path) -> None:
        self.written, self.tests = written, {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "maskgr" not in item.fixturenames]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):  # noqa: ANN201
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
        self.tests[item.nodeid] = seconds, functions

    def pytest_sessionfinish(self) -> None:
        self.written.write_text(json.dumps(self.tests))


def covering(mutant: Mutant, tests: Tests, seconds: float) -> list[str]:
    """The tests that call what is changed, the quickest first, as many as take so many seconds.

    Where none calls the function, as where the change is in none: those that call any function of the file.
    """
    of_file = sorted((cost, name) for name, (cost, functions) in tests.items() if mutant.path in functions)
    of_function = [(cost, name) for cost, name in of_file if mutant.function in tests[name][1][mutant.path]]
    chosen = of_function or of_file
    sums = itertools.accumulate(cost for cost, _ in chosen)
    return [
        name
        for place, ((_, name), total) in enumerate(zip(chosen, sums, strict=True))
        if place == 0 or total <= seconds
    ]


def judge(drawn: list[Mutant], tests: Tests, seconds: float, jobs: int, folder: Path) -> dict[Mutant, str]:
    """How each mutant ended: "killed", "survived" or "time" (far beyond what its tests take without it; it counts as killed)."""
    left, running, report = list(enumerate(drawn)), {}, {}
    while left or running:
        while left and len(running) < jobs:
            number, mutant = left.pop(0)
            names = covering(mutant, tests, seconds)
            cpu = 120 + 10 * sum(tests[name][0] for name in names)
            running[
                fork(
                    lambda one=mutant, names=names, where=folder / str(number): run_mutant(one, names, where),
                    int(cpu),
                )
            ] = mutant
        child, status = os.wait()
        mutant, code = running.pop(child), os.waitstatus_to_exitcode(status)
        report[mutant] = (
            "survived" if code == 0 else "time" if code in (-signal.SIGXCPU, -signal.SIGALRM) else "killed"
        )
        print(f"{report[mutant]:8} {mutant}", flush=True)
    return report


def fork(work: Callable[[], int], cpu: int) -> int:
    """A child that does the work, silent, in so many seconds of a processor at most, and ends with the exit code that it gives."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        signal.alarm(WALL)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 10))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        code = work()
    finally:
        os._exit(code)


def run_mutant(mutant: Mutant, names: list[str], folder: Path) -> int:
    """0 if the tests pass with the change; also where there are none."""
    sys.meta_path.insert(0, Changed(mutant))
    return run_tests(["-x", *names], folder) if names else 0


def run_tests(arguments: list[str], folder: Path, *plugins: object) -> int:
    os.chdir(ROOT)
    options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}"]
    return int(pytest.main([*options, *arguments], plugins=list(plugins)))


class Changed:
    """Finds the one module that is changed, and imports it so."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant, self.name = mutant, mutant.path.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        path = str(ROOT / self.mutant.path)
        return (
            importlib.util.spec_from_file_location(name, path, loader=Loader(self.mutant, name, path))
            if name == self.name
            else None
        )


class Loader(SourceFileLoader):
    def __init__(self, mutant: Mutant, name: str, path: str) -> None:
        super().__init__(name, path)
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(mutated(ROOT, self.mutant), self.path, "exec", dont_inherit=True)


if __name__ == "__main__":
    main()
