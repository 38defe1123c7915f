"""Training on Beauty with a schedule that is fitted to the time, and its evaluation on the test users."""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks import training
from benchmarks.common import dataset, rate
from benchmarks.gpu.fit import Pace, Schedule, fit
from benchmarks.gpu.process import Conditions, Report, peak
from benchmarks.gpu.throughput import compiled
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.metrics import rank_targets
from pipelines.evaluate.recommend import recommend
from pipelines.models.loading import load_run
from pipelines.models.nn.precision import autocast
from pipelines.models.sid_models.config import MaskGRConfig
from pipelines.processes import process_state
from pipelines.train.configure import configure
from pipelines.train.history import validations
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.validation import Validator
from pipelines.workspace import Run, Workspace

MOST_VALIDATIONS = 10
DEPTHS = (5, 10)
CURVE = 200  # points of the curve of the loss that are kept
WORTH_COMPILING = 1.15  # speed relative to the uncompiled blocks
MODEL = "maskgr"


def train(conditions: Conditions, report: Report, preset: str) -> None:
    """Train and test, with the time that is left divided between them.

    Args:
        conditions: of the part.
        report: receives "pace", "schedule", "training" and the tests.
        preset: preset of the training.
    """
    keep_freed_memory()
    settings, names = fastest(conditions, preset)
    report("settings", {**settings, "compiled": names})
    with compiled(names, conditions.device) if names else nullcontext():
        pace = measure(preset, settings, conditions.seconds)
        report("pace", asdict(pace))
        free_memory()
        _, preset_schedule = configure(MODEL, preset, {})
        assert preset_schedule.steps
        most = min(MOST_VALIDATIONS, preset_schedule.validations)
        schedule = fit(pace, conditions.left, preset_schedule.steps, most)
        report("schedule", {**asdict(schedule), "of the preset": preset_schedule.steps})
        lengths = {name: value for name, value in asdict(schedule).items() if name != "tested"}
        plan = planned(preset, {**settings, **lengths})
        name = f"gpu-check-{conditions.device}-{preset}"
        run = train_run(Workspace.find(), plan, console.RichProgress(), name=name, existing="replace")
        report("training", trained(run))
        report("peak GiB of the training", peak(conditions.device))
        assert isinstance(plan.model_settings, MaskGRConfig)
        nfe = 1 if plan.model_settings.likelihood == "item" else None  # in place of one for each digit
        first = test(run, Decoding(nfe=nfe), schedule.tested)
        report("test", first)
        if nfe is None and conditions.left > 2 * first["seconds"]:
            report("test, not constrained", test(run, Decoding(constrained=False), schedule.tested))
    report("summary", summary(schedule, preset_schedule.steps, first))


def fastest(conditions: Conditions, preset: str) -> tuple[dict[str, Any], list[str]]:
    """Return the settings and the compiled methods that were the fastest of the part "throughput"; none where
    it measured another preset, or where this part has failed before.
    """
    best = conditions.throughput.get("fastest")
    if conditions.throughput.get("preset") != preset or not best or conditions.failed_before:
        return {}, []
    worth = best["times the eager speed"] >= WORTH_COMPILING
    return best["settings"], best["compiled"] if worth else []


def measure(preset: str, settings: dict[str, Any], seconds: float) -> Pace:
    """Measure the pace of a training: a validation and some steps, which warm up the device too."""
    trainer = training.trainer(preset, **settings)
    data, sids = dataset()
    validator = Validator(
        trainer, histories(load_sequences(data.sequences), "validation"), load_catalogue(data, sids)
    )
    validator.recall()
    began = time.perf_counter()
    validator.recall()
    validation = time.perf_counter() - began
    work = training.training_steps(trainer)

    def step() -> int:
        work()
        return 1

    step(), step()
    beams = Decoding().beams / validator.decoding.beams
    test_seconds = validation * beams * validator.all_users / len(validator.split)
    return Pace(rate(step, seconds), validation, test_seconds)


def free_memory() -> None:
    """Free what earlier work left on the device, and count its peak anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def planned(preset: str, settings: dict[str, Any]) -> Plan:
    """Return the plan of a training of Beauty: a preset with some settings in place of its values."""
    data, sids = dataset()
    return Plan(data.name, sids, MODEL, preset, *configure(MODEL, preset, settings))


def trained(run: Run) -> dict[str, Any]:
    """Return what JSON should hold of a trained run."""
    config = artifacts.read_json(run.config)
    history = artifacts.read(run.history, "history").to_pylist()
    curve = [(row["step"], row["value"]) for row in history if row["measure"] == "loss"]
    return {
        **{name: config[name] for name in ("state", "steps", "seconds", "best")},
        "validations": validations(run),
        "loss": curve[:: -(-len(curve) // CURVE)],
    }


def test(run: Run, decoding: Decoding, share: float) -> dict[str, float]:
    """Return the metrics on a share of the test users in percent, and the seconds and users/s of decoding."""
    device = process_state().device
    trained = load_run(Workspace.find(), run, device)
    everyone = trained.split(load_sequences(trained.dataset.sequences, trained.catalogue.items), "test")
    users = everyone.sample(max(1, int(share * len(everyone))), 0)
    index = PartialIndex(trained.catalogue.require_sids(), trained.catalogue.codes)
    resolved = resolve_decoding(decoding, trained.model, trained.horizon)
    began = time.perf_counter()
    with autocast("auto", device):
        found = recommend(trained.model, users, index, resolved, console.RichProgress())
    seconds = time.perf_counter() - began
    ranks = rank_targets(found.items, users.targets).astype(float)
    metrics: dict[str, float] = {}
    for k in DEPTHS:
        hits = (ranks > 0) & (ranks <= k)
        metrics[f"recall@{k}"] = 100 * hits.mean()
        metrics[f"ndcg@{k}"] = 100 * (hits / np.log2(np.maximum(ranks, 1) + 1)).mean()
    return {**metrics, "seconds": seconds, "users": len(users), "users/s": len(users) / seconds}


def summary(schedule: Schedule, steps: int, measured: dict[str, float]) -> str:
    """Return the results in a line."""
    recall, ndcg, users = (measured[name] for name in ("recall@10", "ndcg@10", "users/s"))
    return f"{schedule.steps:,} of {steps:,} steps; R@10 {recall:.2f}, N@10 {ndcg:.2f}; {users:,.0f} users/s"
