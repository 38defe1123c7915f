"""Parts of the check, in their order, with their shares of a call's time."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import torch

from benchmarks.gpu import agreement, attention, throughput, training
from benchmarks.gpu.process import Conditions, Part, Report

TRAINING = {"smoke": (0.25, 0.05), "small": (0.25, 0.15), "paper": (1.0, 0.85)}  # shares of a call's time


def parts_of(preset: str) -> list[Part]:
    """Return the parts of a check of a preset; before `paper`, the preset `small` is trained too.

    Shares of all parts but `paper`'s training sum to less than one, so that a call does them all; the next
    call has its whole time for that training, whose schedule is as long as the time.
    """
    trained = ("small", "paper") if preset == "paper" else (preset,)
    return [
        Part("agreement", check_agreement, 0.2, 0.05),
        Part("throughput", throughput.measure, 0.35, 0.1),
        Part("attention", attention.measure, 0.15, 0.05),
        *(Part(f"train {name}", partial(training.train, preset=name), *TRAINING[name]) for name in trained),
    ]


def check_agreement(conditions: Conditions, report: Report) -> None:
    """Compare the device with the CPU.

    Args:
        conditions: of the part.
        report: receives each check by its name.
    """
    checks = []
    for check in agreement.checks(torch.device(conditions.device)):
        checks.append(check)
        report(check.name, {**asdict(check), "passed": check.passed})
    failed = [check for check in checks if not check.passed]
    for check in failed:
        print(f"FAILED: {check.name}: {check.off:.2g}, {check.allowed:g} allowed. {check.detail}")
    report("failed", len(failed))
    report("summary", f"{len(checks) - len(failed)} of {len(checks)} checks passed")
