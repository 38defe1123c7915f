"""A training run from artifacts to artifacts: sequences and semantic IDs in, weights and history out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from accelerate import Accelerator

from pipelines import __version__, artifacts, shapes
from pipelines.data.catalogue import Catalogue, load_catalogue, sources
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import histories, training
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.durable import install
from pipelines.errors import TrainingDiverged, UserError
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.metrics import rank_targets
from pipelines.evaluate.recommend import recommend
from pipelines.models import loading
from pipelines.models.base import DigitModel
from pipelines.models.config import ModelConfig
from pipelines.models.nn.precision import uses_bf16
from pipelines.models.registry import model_config
from pipelines.processes import Processes, process_state, turn
from pipelines.progress import Progress, Silent
from pipelines.train import checkpoint
from pipelines.train.batches import Batches, drop_random_items
from pipelines.train.config import TrainConfig
from pipelines.train.loop import Trainer
from pipelines.train.memory import check_memory
from pipelines.workspace import Run, RunConfig, Workspace


@dataclass(frozen=True)
class Plan:
    """What to train: everything that decides the result."""

    dataset: str
    sids: str | None  # None for a model that knows items by number
    model: str
    preset: str
    model_settings: ModelConfig
    train: TrainConfig

    def __post_init__(self) -> None:
        self.model_settings.check_horizon(self.train.horizon)
        if self.train.windows == "last" and self.model_settings.examples == "prefixes":
            raise UserError(
                f"--windows last means nothing to --model {self.model}, where each item ends a window. Leave it out."
            )

    @property
    def name(self) -> str:
        """The run's default name: what a person needs to know, and a digest of all the rest."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.dataset[:64]}-{self.model}-{self.preset}-{digest[:6]}"


def unfinished(workspace: Workspace, name: str | None) -> tuple[Run, Plan]:
    """A run that was interrupted, and its plan: the one named, else the newest.

    Raises:
        UserError: there is none, or it is finished, or the one named diverged, as it would again.
    """
    runs = [workspace.require_run(name)] if name else workspace.runs
    latest = [run.anew if run.anew.config.exists() else run for run in runs]
    for run in sorted(latest, key=lambda run: run.config.stat().st_mtime_ns, reverse=True):
        found = run.read_config()
        if name and found.get("state") == "diverged":
            raise UserError(_diverged(run, found))
        if found.get("state") == "diverged" or (found.get("state") == "finished" and run in runs):
            continue
        try:
            return run, from_dict(found)
        except (KeyError, shapes.Misfit) as error:
            raise UserError(
                f"{run.config} is not a run's configuration of this version ({error}). Train the run again."
            ) from None
    over = f"run {name} is finished" if name else f"every run in {workspace.root} is finished or diverged"
    raise UserError(f"There is nothing to resume: {over}.")


def train_run(
    workspace: Workspace,
    plan: Plan,
    progress: Progress,
    *,
    name: str | None = None,
    resume: bool = False,
    force: bool = False,
    track: str | None = None,
    should_prune: Callable[[int, float], bool] | None = None,
) -> Run:
    """Train, or continue, or find it done.

    A training that starts again works in `Run.anew` and takes the run's place, all at once, when it is finished; until then the
    run stays as it is. Of two commands that train one run the second waits for the first.

    Args:
        name: of the run; the default names the plan.
        resume: continue an interrupted run, or an interrupted training anew, as if it had never stopped.
        force: start again whatever is there.
        track: an Accelerate tracker ("tensorboard", "wandb", …) that gets every recorded figure.
        hopeless: told the number of each validation and its result; the training ends where it returns True.

    Raises:
        UserError: artifacts that are missing or do not belong together; a run of that name that is another one.
        TrainingDiverged: a loss, a gradient or a weight was not finite; the best weights before are kept.
        KeyboardInterrupt: Ctrl-C; the state is saved first.
    """
    run = workspace.run(name or plan.name)
    with turn(run.path, lambda: progress.say(f"Waiting for another command that trains {run.name}.")):
        anew = run.config.exists() and (force or (resume and run.anew.config.exists()))
        place = run.anew if anew else run
        if anew:
            progress.say(f"{run.name} stays as it is until it is trained anew.")
        _train(workspace, plan, place, progress, resume, force, track, should_prune)
        if anew:
            if process_state().is_main_process:
                install(place.path, run.path)
            process_state().wait_for_everyone()
    return run


def _train(
    workspace: Workspace,
    plan: Plan,
    run: Run,
    progress: Progress,
    resume: bool,
    force: bool,
    track: str | None,
    should_prune: Callable[[int, float], bool] | None,
) -> None:
    """See `train_run`; `run` is where to."""
    dataset = workspace.require_dataset(plan.dataset)
    inputs = sources(dataset, plan.sids, plan.model_settings.training_needs)
    catalogue = load_catalogue(dataset, plan.sids, plan.model_settings.training_needs)
    if not force and _finished(run, plan, inputs, resume):
        progress.say(f"{run.name} is trained already ({run.weights}); --force trains it again.")
        if run != run.anew and run.anew.config.exists():
            progress.say(
                f"A training anew was interrupted. Continue it with: maskgr train --resume --name {run.name}"
            )
        return
    accelerator = start_accelerate(plan.train.precision, track, run.path)
    if not accelerator.is_main_process:
        progress = Silent()
    sequences = load_sequences(dataset.sequences, catalogue.items)
    check_memory(plan.model_settings, plan.train, catalogue.items)
    torch.manual_seed(plan.train.seed)
    model = loading.build(plan.model_settings, catalogue)
    model.start(catalogue)
    prefixes = plan.model_settings.examples == "prefixes"
    trained_on = training(sequences, plan.train.horizon)
    if plan.train.drop_items:
        trained_on = drop_random_items(trained_on, plan.train.drop_items, plan.train.seed)
        progress.say(
            f"Left out items at random: {len(trained_on.items):,} of {len(training(sequences, plan.train.horizon).items):,} remain."
        )
    last = plan.train.windows == "last"
    batches = Batches(
        trained_on,
        plan.train.batch_size,
        plan.model_settings.window,
        plan.train.seed,
        prefixes,
        plan.train.horizon,
        last,
    )
    trainer = Trainer(model, batches, plan.train, accelerator)
    session = _Session(run, plan, inputs, sequences, catalogue, trainer, progress)
    if resume and run.state.exists():
        checkpoint.load(trainer, run.state)
        progress.say(f"Resumed {run.name} at step {trainer.state.step}.")
    elif accelerator.is_main_process:
        for file in (
            run.config,
            run.state,
            run.weights,
            run.history,
        ):  # of an earlier training: none of it belongs to this one
            file.unlink(missing_ok=True)
    session.announce(batches)
    if track:
        _start_tracker(accelerator, plan, track)
    session.describe("running")
    try:
        finished = trainer.fit(session.validate, session.save, progress, should_prune)
    except TrainingDiverged as error:
        session.diverged()
        raise TrainingDiverged(session.advice(str(error))) from None
    accelerator.end_training()
    session.describe("finished" if finished else "interrupted")
    if not finished:
        progress.say(
            f"Stopped at step {trainer.state.step}; the state is saved. Continue with: maskgr train --resume --name {run.name}"
        )
        signal.raise_signal(trainer.stopped)  # it takes its course


class _Session:
    """Ties one trainer to one run's files."""

    def __init__(
        self,
        run: Run,
        plan: Plan,
        inputs: dict[str, Path],
        sequences: Sequences,
        catalogue: Catalogue,
        trainer: Trainer,
        progress: Progress,
    ) -> None:
        self.run, self.plan, self.inputs, self.trainer, self.progress = run, plan, inputs, trainer, progress
        self.began, self.created = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        everyone = histories(sequences, "validation", plan.train.horizon)
        self.users = len(everyone)
        self.split = everyone.sample(plan.train.validation_users or len(everyone), plan.train.seed)
        self.index = (
            PartialIndex(catalogue.sids, catalogue.codes)
            if isinstance(trainer.unwrapped_model, DigitModel)
            else None
        )
        nfe = trainer.unwrapped_model.validation_nfe if plan.train.horizon == 1 else None
        self.decoding = resolve_decoding(
            Decoding(beams=plan.train.validation_beams, nfe=nfe), trainer.unwrapped_model
        )

    def announce(self, batches: Batches) -> None:
        """Say what is trained on what, and what is not seen whole."""
        accelerator, parameters = (
            self.trainer.accelerator,
            sum(p.numel() for p in self.trainer.unwrapped_model.parameters()),
        )
        self.progress.say(
            f"Training {self.run.name}: {parameters / 1e6:.2f} M parameters on {accelerator.num_processes} × {accelerator.device.type} "
            f"({accelerator.mixed_precision if accelerator.mixed_precision != 'no' else 'fp32'}), "
            f"{len(batches.sequences):,} users, {batches.windows:,} sequences and {batches.steps_per_epoch:,} steps an epoch."
        )
        if cut := batches.sequences.truncated(batches.max_items):
            through = (
                "the last ones up to each item"
                if batches.prefixes
                else "the last ones"
                if batches.last
                else "random windows"
            )
            self.progress.say(
                f"{cut:,} users have more than {batches.max_items} items: trained through {through}, validated on the last."
            )
        self.progress.say(
            f"Validation Recall@10 on {len(self.split):,} of {self.users:,} users, {self.decoding.name}."
        )

    def validate(self) -> float:
        """Recall@10 on the validation users, from all processes."""
        with self.trainer.accelerator.autocast():
            found = recommend(
                self.trainer.unwrapped_model,
                self.split,
                self.index,
                self.decoding,
                Silent(),
                processes=Processes.started(),
            )
        ranks = rank_targets(found.items[:, :10], self.split.targets)
        return float((ranks > 0).mean())

    def save(self, best: bool) -> None:
        """Write state, history and, where they are the best, the weights; the first process only."""
        if self.trainer.accelerator.is_main_process:
            if best:
                loading.save(self.trainer.unwrapped_model, self.run.weights)
            checkpoint.save(self.trainer, self.run.state)
            self._keep_history()
            self.describe("running")
        self.trainer.accelerator.wait_for_everyone()

    def diverged(self) -> None:
        """Note that the training is over; weights and state stay those of the last checkpoint, history goes on to here."""
        if self.trainer.accelerator.is_main_process:
            self._keep_history()
            self.describe("diverged")
        self.trainer.accelerator.wait_for_everyone()

    def advice(self, reason: str) -> str:
        """What a person should know of a training that diverged."""
        train, state = self.plan.train, self.trainer.state
        best = f"the weights of step {state.best_step}, the best so far (validation Recall@10 {100 * state.best:.2f}), are kept"
        kept = best if state.best >= 0 else "there was no validation before, so no weights are kept"
        clip = " or give --grad-clip 1" * (not train.grad_clip)
        return (
            f"{self.run.name} diverged: {reason}; {kept}. Lower --learning-rate ({train.learning_rate:g}){clip}, "
            "and train again, with --force where the name is to stay."
        )

    def _keep_history(self) -> None:
        """Write history.parquet, where there is any history yet."""
        if not self.trainer.state.history:
            return
        step, measure, value = zip(*self.trainer.state.history, strict=True)
        table = pa.table(
            {"step": pa.array(step, pa.int64()), "measure": measure, "value": pa.array(value, pa.float64())}
        )
        artifacts.write(
            self.run.history,
            "history",
            table,
            config=describe(self.plan),
            inputs=self.inputs,
            started=self.began,
        )

    def describe(self, state: str) -> None:
        """Write config.json."""
        if not self.trainer.accelerator.is_main_process:
            return
        done = self.trainer.state
        value = {
            **describe(self.plan),
            "created": self.created,
            "state": state,
            "inputs": {
                key: {"path": os.path.relpath(path, self.run.path), "sha256": artifacts.digest(path)}
                for key, path in self.inputs.items()
            },
            "version": __version__,
            "commit": artifacts.commit(),
            "machine": artifacts.machine(),
            "processes": self.trainer.accelerator.num_processes,
            "steps": done.step,
            "seconds": round(done.seconds, 1),
            "best": {"step": done.best_step, "recall@10": done.best} if done.best >= 0 else None,
            "weights": artifacts.digest(self.run.weights) if state == "finished" else None,
        }
        artifacts.write_json(self.run.config, value)


def describe(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(plan)))


def from_dict(found: RunConfig) -> Plan:
    """The plan from what `describe` gave.

    Raises:
        KeyError, Misfit: something is missing or of another type.
        UserError: a value is refused.
    """
    shapes.fit(found["train"], TrainConfig, "train")
    model_settings, schedule = (
        model_config(found["model"], found["model_settings"]),
        TrainConfig(**found["train"]),
    )
    return Plan(found["dataset"], found["sids"], found["model"], found["preset"], model_settings, schedule)


def _finished(run: Run, plan: Plan, inputs: dict[str, Path], resume: bool) -> bool:
    """Whether there is nothing left to train.

    Raises:
        UserError: the run exists but is another one, or stopped halfway and neither --resume nor --force is given.
    """
    if not run.config.exists():
        return False
    found = run.read_config()
    changed = [key for key, value in describe(plan).items() if found.get(key) != value]
    if changed:
        raise UserError(
            f"{run.path} holds a run with other settings ({', '.join(changed)}). Choose another --name or use --force."
        )
    for name, path in inputs.items():
        if found.get("inputs", {}).get(name, {}).get("sha256") != artifacts.digest(path):
            raise UserError(
                f"{run.path} was trained on other {name} than {path} now holds. Train it again with --force."
            )
    if found.get("state") == "finished":
        if not run.weights.exists():
            raise UserError(
                f"{run.weights} does not exist, though the run is finished. Train it again with --force."
            )
        return True
    if found.get("state") == "diverged":
        raise UserError(_diverged(run, found))
    if not resume:
        raise UserError(
            f"{run.path} was interrupted at step {found.get('steps', 0)}. "
            f"Continue it with: maskgr train --resume --name {run.name}. Or start again with --force."
        )
    return False


def _diverged(run: Run, found: dict[str, Any]) -> str:
    return f"{run.path} diverged at step {found.get('steps', 0)}, and would again. Lower --learning-rate and train again with --force."


def start_accelerate(precision: str, track: str | None = None, folder: Path | None = None) -> Accelerator:
    """Accelerate with the precision and the tracker asked for.

    Raises:
        UserError: a tracker that Accelerate does not know or that is not installed.
    """
    bf16 = uses_bf16(precision, process_state().device)
    try:
        accelerator = Accelerator(
            mixed_precision="bf16" if bf16 else "no", log_with=track, project_dir=folder and str(folder)
        )
    except (ValueError, ImportError) as error:
        if track is None:
            raise
        raise UserError(
            f"--track {track}: {error}. Install the tracker, e.g. `pip install maskgr[tracking]` for tensorboard."
        ) from None
    if track and not accelerator.log_with:
        raise UserError(
            f"--track {track}: that tracker is not installed; e.g. `pip install maskgr[tracking]` for tensorboard."
        )
    return accelerator


def _start_tracker(accelerator: Accelerator, plan: Plan, track: str) -> None:
    flat = {
        key: value
        for part in (plan.model_settings, plan.train)
        for key, value in dataclasses.asdict(part).items()
        if value is not None
    }
    accelerator.init_trackers(
        "maskgr",
        {**flat, "dataset": plan.dataset, "sids": plan.sids, "model": plan.model, "preset": plan.preset},
    )
