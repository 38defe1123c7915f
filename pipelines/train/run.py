"""Training of a run, from artifacts (sequences, semantic IDs) to artifacts (weights, history)."""

from __future__ import annotations

import signal
from collections.abc import Callable

import torch

from pipelines.data.catalogue import (
    Catalogue,
    are_of_interactions,
    digests_of_items,
    load_catalogue,
    sources,
)
from pipelines.durable import install
from pipelines.errors import TrainingDiverged, UserError, enough_memory
from pipelines.models import loading
from pipelines.models.base import DigitModel, Recommender
from pipelines.processes import command_lock, from_first, process_state
from pipelines.progress import Progress, Silent
from pipelines.temporal import TemporalSplit
from pipelines.train import checkpoint
from pipelines.train.accelerator import start_accelerate, start_tracker
from pipelines.train.data import training_data
from pipelines.train.derived import load_continued
from pipelines.train.existing import Existing, is_finished
from pipelines.train.loop import Trainer
from pipelines.train.memory import advice, check_memory, describe, release_unused
from pipelines.train.plan import Plan
from pipelines.train.record import RunWriter
from pipelines.train.soft_targets import ensure_soft_targets
from pipelines.train.teachers import check_unchanged, teacher_weights
from pipelines.train.validation import Validator
from pipelines.workspace import Dataset, Run, RunConfig, Workspace

ShouldPrune = Callable[[int, float], bool]  # number of a validation, its Recall@10 → True to end the training


def train_run(
    workspace: Workspace,
    plan: Plan,
    progress: Progress,
    *,
    name: str | None = None,
    existing: Existing = "keep",
    track: str | None = None,
    should_prune: ShouldPrune | None = None,
) -> Run:
    """Train a run, continue it, or find it finished.

    If a run that exists is trained again, its files stay as they are until the new training is finished. The
    new training works in `Run.anew` and then replaces the run's files all at once. Of two commands that train
    the same run, the second waits for the first.

    Args:
        workspace: workspace with the data set and the semantic IDs; the run is written there.
        plan: settings of the training.
        progress: receives messages and progress.
        name: name of the run; None for the default name of the plan.
        existing: use of a run of that name that exists. "keep" keeps a finished run and refuses an
            interrupted one. "resume" keeps a finished run and continues an interrupted one, or an interrupted
            repetition of a finished one, as if it had never stopped. "replace" trains the run again.
        track: name of an Accelerate tracker ("tensorboard", "wandb", …) that receives every recorded value.
        should_prune: called after each validation with its number and its Recall@10; True ends the training.

    Raises:
        UserError: An artifact is missing, artifacts do not belong together, or a run of that name has another
            plan.
        TrainingDiverged: A loss, a gradient or a weight is not finite. The best weights before are kept.
        KeyboardInterrupt: The user pressed Ctrl-C. The state is saved first.
    """
    run = workspace.run(name or plan.name)
    with command_lock(run.path, lambda: progress.say(f"Waiting for another command that trains {run.name}.")):
        anew = from_first(
            run.config.exists()
            and (existing == "replace" or (existing == "resume" and run.anew.config.exists()))
        )
        target = run.anew if anew else run
        if anew:
            progress.say(f"{run.name} stays as it is until its new training is finished.")
        with enough_memory(f"train {run.name}", advice(plan)):
            finished, stop_signal = _train(workspace, plan, target, progress, existing, track, should_prune)
        if anew and finished and process_state().is_main_process:
            install(target.path, run.path)
        if stop_signal:  # the handler that was set before the training ends the program
            signal.raise_signal(stop_signal)
    return run


def _train(
    workspace: Workspace,
    plan: Plan,
    run: Run,
    progress: Progress,
    existing: Existing,
    track: str | None,
    should_prune: ShouldPrune | None,
) -> tuple[bool, int]:
    """Train into the folder of `run`; see `train_run`.

    Returns:
        True if the training is finished; and the number of the signal that the training received, or 0.
    """
    dataset, needs = workspace.require_dataset(plan.dataset), plan.training_needs
    inputs = sources(dataset, plan.sids, needs)
    catalogue = load_catalogue(dataset, plan.sids, needs)
    if from_first(existing != "replace" and is_finished(run, plan, inputs, existing)):
        if existing == "keep":
            check_unchanged(workspace, run)
        _say_finished(run, progress)
        return True, 0
    accelerator = start_accelerate(plan.train.precision, track, run.path)
    if not accelerator.is_main_process:
        progress = Silent()
    _check_leakage(plan, dataset)
    check_memory(plan.model_settings, plan.train, catalogue.items)
    resumes = from_first(existing == "resume" and run.state.exists())
    # A training goes on in the order in which it began, on whatever machine.
    begun: RunConfig = from_first(run.read_config() if resumes else RunConfig())
    teachers, targets = teacher_weights(workspace, plan, run, begun), None
    if teachers:
        targets = ensure_soft_targets(workspace, plan, teachers, catalogue.items, progress)
    shuffle = begun.get("shuffle")
    data = training_data(plan, dataset.sequences, catalogue.items, progress, shuffle, targets)
    known = data.known
    model = _build_model(plan, catalogue if known is None else catalogue.subset(known))
    if plan.continued and not resumes:
        load_continued(model, workspace, plan.continued, dataset, catalogue, inputs, progress)
    last_step = plan.final.steps if plan.final else None
    trainer = Trainer(model, data.batches, plan.train, accelerator, last_step)
    digests = digests_of_items(catalogue, dataset, catalogue.items)
    writer = RunWriter(run, plan, inputs, trainer, catalogue.items, digests, data.shuffle, teachers)
    validator = Validator(trainer, data.validation, catalogue, known) if data.validation else None
    if resumes:
        checkpoint.load(trainer, run.state)
        progress.say(f"Resumed {run.name} at step {trainer.state.step}.")
    else:
        writer.delete_earlier()
        writer.write_settings(bool(plan.continued and workspace.run(plan.continued.of).is_final))
    announce(run, plan, trainer, validator, progress)
    if validator and (split := TemporalSplit.of(dataset.sequences)):
        progress.say(split.line("validation"))
    if known is not None:
        cold = f"{catalogue.items - len(known):,} of {catalogue.items:,} items"
        progress.say(f"{cold} are cold: no interaction of theirs is trained on.")
    if track:
        start_tracker(accelerator, plan)
    writer.write_config("running")
    release_unused()
    try:
        finished = trainer.fit(validator.recall if validator else None, writer.save, progress, should_prune)
    except TrainingDiverged as error:
        writer.save_diverged()
        raise TrainingDiverged(_diverged(run, trainer, str(error))) from None
    if finished and "dense_weight" in trainer.unwrapped_model.decoding_options:
        writer.dense_weight = _dense_weight(workspace, plan, run, validator, progress)
    writer.write_config("finished" if finished else "interrupted")
    if not finished:
        progress.say(
            f"Stopped at step {trainer.state.step}; the state is saved. "
            f"Continue with: maskgr train --resume --name {run.name}"
        )
    accelerator.wait_for_everyone()  # a launcher ends all processes once one of them has failed
    for tracker in accelerator.trackers:
        tracker.finish()  # `end_training` would end the process group too, which further trainings need
    return finished, trainer.stop_signal


def _dense_weight(
    workspace: Workspace, plan: Plan, run: Run, validator: Validator | None, progress: Progress
) -> float | None:
    """Choose the weight of the dense score in unified retrieval by a run's best weights.

    A final run has the weight of the run that it takes its settings from; without validation it is None.
    """
    if plan.final:
        return workspace.require_run(plan.final.of).read_config().get("dense_weight")
    if validator is None:
        return None
    model = loading.load_run(workspace, run, process_state().device).model
    assert isinstance(model, DigitModel), "dense retrieval goes with semantic IDs"
    weight = validator.dense_weight(model, progress)
    progress.say(f"Unified retrieval: a weight of {weight:g} of the dense score is the best on validation.")
    return weight


def _check_leakage(plan: Plan, dataset: Dataset) -> None:
    """Check that the semantic IDs have not seen interactions that the plan holds out.

    Embeddings of interactions see the training interactions of a run without --cold and --horizon.

    Raises:
        UserError: they have seen such interactions.
    """
    flags = ["--cold"] * bool(plan.train.cold) + ["--horizon"] * (plan.train.horizon > 1)
    if plan.sids and flags and are_of_interactions(dataset, plan.sids):
        raise UserError(
            f"{flags[0]} holds out interactions that the semantic IDs {plan.sids} were made from: their "
            "embeddings are of interactions. Make semantic IDs of texts: maskgr embed --encoder lsa, then "
            "maskgr tokenize."
        )


def _build_model(plan: Plan, catalogue: Catalogue) -> Recommender:
    """Build a model with the initial weights of a new training."""
    torch.manual_seed(plan.train.seed)
    model = loading.build(plan.model_settings, catalogue)
    if not plan.continued:
        model.start(catalogue)
    return model


def announce(run: Run, plan: Plan, trainer: Trainer, validator: Validator | None, progress: Progress) -> None:
    """Report the model's size and memory, the device, the training data and the validation."""
    if plan.model_settings.is_counted:
        device = f"{trainer.accelerator.num_processes} × {trainer.accelerator.device.type}"
        progress.say(f"Counting {run.name} on {device}: {trainer.batches.users:,} users.")
    else:
        _announce_steps(run, trainer, progress)
        progress.say(describe(trainer, validator.index_bytes if validator else 0))
    if plan.final:
        best = "" if plan.continued else f", the best of {plan.final.of}"
        end = f"the training ends after step {plan.final.steps:,}{best}"
        progress.say(f"Whole sequences, no validation: {end}.")
    if validator:
        progress.say(
            f"Validation Recall@10 on {len(validator.split):,} of {validator.all_users:,} users, "
            f"{validator.decoding.name}."
        )


def _announce_steps(run: Run, trainer: Trainer, progress: Progress) -> None:
    """Report the parameters, the device and the batches of a training in steps."""
    accelerator, batches = trainer.accelerator, trainer.batches
    parameters = sum(parameter.numel() for parameter in trainer.unwrapped_model.parameters())
    precision = accelerator.mixed_precision if accelerator.mixed_precision != "no" else "fp32"
    progress.say(
        f"Training {run.name}: {parameters / 1e6:.2f} M parameters on {accelerator.num_processes} × "
        f"{accelerator.device.type} ({precision}), {batches.users:,} users, "
        f"{batches.windows_per_epoch:,} sequences and {batches.steps_per_epoch:,} steps an epoch."
    )
    if truncated := batches.truncated:
        windows = "random windows"
        if batches.cut.prefixes:
            windows = "the last items up to each item"
        elif batches.cut.last_only:
            windows = "the last items"
        progress.say(
            f"{truncated:,} users have more than {batches.max_items} items: trained on {windows}, "
            "validated on the last items."
        )


def _say_finished(run: Run, progress: Progress) -> None:
    progress.say(f"{run.name} is trained already ({run.weights}); --force trains it again.")
    if run != run.anew and run.anew.config.exists():
        progress.say(
            f"A new training was interrupted. Continue it with: maskgr train --resume --name {run.name}"
        )


def _diverged(run: Run, trainer: Trainer, reason: str) -> str:
    """Return the message about a training that diverged: reason, weights that are kept, advice."""
    config, state = trainer.config, trainer.state
    if state.best >= 0:
        kept = (
            f"the weights of step {state.best_step}, the best so far "
            f"(validation Recall@10 {100 * state.best:.2f}), are kept"
        )
    else:
        kept = "there was no validation before, so no weights are kept"
    clipping = "" if config.grad_clip else " or give --grad-clip 1"
    return (
        f"{run.name} diverged: {reason}; {kept}. Lower --learning-rate ({config.learning_rate:g}){clipping}, "
        "and train again, with --force to keep the name."
    )
