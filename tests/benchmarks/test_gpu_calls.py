"""Tests of the calls of `benchmarks.gpu`: budgets, fitted schedules, faults of a part, cuts between parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.fit import LOADING, TESTING, USED, Pace, fit
from benchmarks.gpu.parts import parts_of
from benchmarks.gpu.process import CLOSING, Part, run_in_process
from benchmarks.gpu.record import LONGEST_TEXT, Record
from pipelines.workspace import Workspace
from tests.benchmarks import gpu_parts
from tests.conftest import PATIENCE, ROOT, write_toy

NAME = "gpu-check-cpu-smoke.json"


@pytest.fixture
def check(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a call with some parts, and returns its JSON and its exit code."""
    monkeypatch.setattr(gpu, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(gpu, "require_beauty", lambda: None)
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def call(*tasks: object, options: str = "") -> tuple[dict[str, Any], int]:
        monkeypatch.setattr(gpu, "parts_of", lambda preset: gpu_parts.parts(*tasks))
        arguments = ["gpu", "--device", "cpu", "--preset", "smoke", *options.split()]
        monkeypatch.setattr(sys, "argv", arguments)
        code = 0
        try:
            gpu.main()
        except SystemExit as error:
            code = int(error.code or 0)
        written = [(tmp_path / folder / NAME).read_text("utf-8") for folder in ("kept", "out")]
        assert written[0] == written[1]
        return json.loads(written[0]), code

    return call


def test_faults_of_a_part_are_recorded_and_the_next_part_runs(check: Any) -> None:
    tasks = (gpu_parts.failing, gpu_parts.crashing, gpu_parts.good)
    content, code = check(*tasks)
    parts = content["parts"]
    assert code == 1
    assert {name: part["state"] for name, part in parts.items()} == {
        "failing": "failed",
        "crashing": "failed",
        "good": "finished",
    }
    assert len(parts["failing"]["error"]) == LONGEST_TEXT
    assert parts["failing"]["error"].endswith("xxx\n")
    assert parts["crashing"]["error"] == "The process ended with exit code -11."
    assert parts["crashing"]["results"] == {"half": None}
    assert parts["good"]["results"]["summary"] == "it went well"
    assert parts["good"]["peak GiB"]["host"] > 0
    assert parts["good"]["machine"]["torch"] == torch.__version__
    again, _ = check(gpu_parts.failing, gpu_parts.good)
    assert again["parts"]["failing"]["results"] == {"failed before": True}
    assert again["parts"]["good"] == parts["good"]  # it was finished
    assert len(again["calls"]) == 2
    only, _ = check(gpu_parts.failing, gpu_parts.good, options="--only good")
    assert only["parts"]["good"]["results"]["process"] != parts["good"]["results"]["process"]  # it ran again


def test_a_part_ends_at_its_deadline_and_keeps_what_it_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu_parts.SIGNAL, str(tmp_path / "signal"))
    reported: dict[str, object] = {}
    conditions = gpu_parts.UntilSignal("cpu", "smoke", 1.0, 1, 0.0)
    state, further = run_in_process(gpu_parts.waiting, conditions, reported.__setitem__)
    assert (state, reported) == ("over its budget", {"half": 1})
    assert further["peak GiB"]["host"] > 0
    child = int((tmp_path / "signal").read_text("utf-8"))
    assert not Path(f"/proc/{child}").exists()


def test_what_was_cut_or_never_tried_comes_before_what_failed(tmp_path: Path) -> None:
    record = Record.open((tmp_path / "record.json",))
    for name, state in (("a", "finished"), ("b", "failed"), ("c", "over its budget")):
        record.begin(name)
        record.end(name, state, 1.0, {})
    record.begin("d")  # cut
    again = Record.open(record.files)
    assert again.pending(["a", "b", "c", "d", "e"]) == ["d", "e", "b", "c"]
    assert again.pending(["a"]) == []
    assert Record.open(record.files, again=True).pending(["a"]) == ["a"]


def test_a_kill_between_two_parts_loses_nothing(tmp_path: Path, workspace: Workspace) -> None:
    write_toy(workspace, name="beauty")
    program = tmp_path / "check.py"
    program.write_text(
        "if __name__ == '__main__':\n"
        "    import pathlib\n"
        "    from benchmarks.gpu import __main__ as gpu\n"
        "    from tests.benchmarks import gpu_parts\n"
        f"    gpu.KEPT = pathlib.Path({str(tmp_path / 'kept')!r})\n"
        "    gpu.require_beauty = lambda: None\n"
        "    gpu.parts_of = lambda preset: gpu_parts.parts(gpu_parts.good, gpu_parts.waiting)\n"
        "    gpu.main()\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OUT": str(tmp_path / "out"),
        gpu_parts.SIGNAL: str(tmp_path / "signal"),
        "MASKGR_WORKSPACE": str(workspace.root),
    }
    command = [sys.executable, str(program), "--device", "cpu", "--preset", "smoke"]
    process = subprocess.Popen([*command, "--total-minutes", "600"], env=environment, cwd=ROOT)
    until = time.monotonic() + PATIENCE

    def parts() -> Any:
        file = tmp_path / "out" / NAME
        return json.loads(file.read_text("utf-8"))["parts"] if file.exists() else {}

    while not (parts().get("waiting", {}).get("results") and (tmp_path / "signal").exists()):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    assert {name: part["state"] for name, part in parts().items()} == {
        "good": "finished",
        "waiting": "running",
    }
    assert parts()["waiting"]["results"] == {"half": 1}
    child = int((tmp_path / "signal").read_text("utf-8"))
    while Path(f"/proc/{child}").exists():  # it ends with the process that started it
        assert time.monotonic() < until
        time.sleep(0.05)
    assert Record.open((tmp_path / "kept" / NAME,)).pending(["good", "waiting"]) == ["waiting"]


@pytest.mark.parametrize("preset", ["paper", "small", "smoke"])
def test_a_call_has_time_for_all_parts_but_the_training_of_paper(preset: str) -> None:
    parts = parts_of(preset)
    total = 360.0
    left = total - 15  # the imports
    begun = {}
    for part in parts:
        seconds = part.budget(total, left)
        if seconds is not None:
            assert part.least * total <= seconds <= part.most * total
            begun[part.name] = seconds
            left -= seconds
    assert left >= CLOSING - 1e-9
    names = ["agreement", "throughput", "attention", "train small", "train paper"]
    if preset == "paper":
        assert list(begun) == names[:-1]
        assert parts[-1].budget(total, total - 15) == total - 15 - CLOSING
    else:
        assert list(begun) == [*names[:3], f"train {preset}"]


def test_a_part_that_does_not_fit_is_left_for_the_next_call(check: Any) -> None:
    content, code = check(gpu_parts.good, options="--total-minutes 0.05")
    assert (content["parts"], code) == ({}, 0)
    assert Part("x", gpu_parts.good, 0.5, 0.1).budget(100.0, 10.0) is None


def test_a_schedule_is_as_long_as_the_time() -> None:
    pace = Pace(steps=10.0, validation=2.0, test=20.0)
    fitted = fit(pace, 320.0, steps=200_000, validations=10)
    training = 320 - 20 - LOADING
    assert fitted.validations == 10
    assert fitted.steps == int(10 * (USED * training - 10 * 2))
    assert fitted.minutes == training / 60
    # All of it ends in time, even if each step takes a tenth longer.
    assert fitted.steps * 1.1 / 10 + 10 * 2 + 20 + LOADING < 320


def test_a_schedule_is_not_longer_than_that_of_the_preset() -> None:
    fitted = fit(Pace(100.0, 0.1, 1.0), 320.0, steps=1800, validations=6)
    assert (fitted.steps, fitted.validations) == (1800, 6)


def test_slow_validations_are_fewer() -> None:
    fitted = fit(Pace(10.0, 20.0, 20.0), 320.0, steps=200_000, validations=10)
    assert fitted.validations == 1
    assert fitted.steps == int(10 * (USED * (300 - LOADING) - 20))


def test_a_slow_test_takes_a_sample_of_the_users() -> None:
    fitted = fit(Pace(10.0, 2.0, 1000.0), 300.0, steps=200_000, validations=1)
    assert fitted.tested == pytest.approx(TESTING * 300 / 1000)
    assert fitted.steps == int(10 * (USED * (300 - TESTING * 300 - LOADING) - 2))
    assert fit(Pace(10.0, 2.0, 20.0), 300.0, 1, 1).tested == 1


def test_no_time_for_a_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="10 s do not suffice: the test takes 3.5 s"):
        fit(Pace(10.0, 10.0, 20.0), 10.0, 100, 1)
