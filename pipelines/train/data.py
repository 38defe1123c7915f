"""Data of a training: the batches, and the users of the validation, in memory or read from files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipelines.data.groups import training_groups
from pipelines.data.held_out import HeldOut
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import Split, histories, training
from pipelines.data.stored import StoredSequences
from pipelines.errors import UserError
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.processes import Processes, from_first
from pipelines.progress import Progress
from pipelines.train.batches import Batches, Cut, drop_random_items, kept_places
from pipelines.train.memory import fits_in_memory
from pipelines.train.plan import Plan
from pipelines.train.stored_targets import StoredTargets
from pipelines.train.streamed import StreamedBatches


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Data of a training.

    Attributes:
        batches: steps of the training.
        validation: histories and targets of all users; None for a final run.
        known: items that the model is over, int64 [N']; None for all items. With `--cold`, these are the
            items with a training interaction, and the batches hold their places among these.
        shuffle: order of the sequences, "all" or "groups".
    """

    batches: Batches | StreamedBatches
    validation: Split | HeldOut | None
    known: np.ndarray | None
    shuffle: str


def training_data(
    plan: Plan,
    sequences: Path,
    n_items: int,
    progress: Progress,
    shuffle: str | None = None,
    targets: Path | None = None,
) -> TrainingData:
    """Prepare the data of a training.

    Args:
        plan: settings of the training.
        sequences: sequences.parquet of the data set.
        n_items: N.
        progress: receives messages.
        shuffle: order of an interrupted training that goes on; None for that of the plan.
        targets: file of the soft targets; None without teachers.

    Raises:
        UserError: the sequences cannot be read, or no user has enough items.
    """
    stored = StoredSequences(sequences, n_items)
    soft = None if targets is None else StoredTargets(targets)
    chosen = shuffle or plan.train.shuffle
    if chosen == "auto":
        fits = fits_in_memory(stored.interactions, *([soft.place_bytes] if soft else []))
        chosen = from_first("all" if fits else "groups")
    if chosen == "all":
        data = _in_memory(plan, load_sequences(sequences, n_items), soft, progress)
    else:
        data = _streamed(plan, stored, n_items, soft, Processes.on_cpus())
        batches = data.batches
        assert isinstance(batches, StreamedBatches), "they are streamed"
        progress.say(
            f"The sequences stay in their files (--shuffle groups): {len(stored.groups):,} row groups, in "
            f"{len(batches.blocks(0)):,} block(s) of an epoch, of which one is in memory."
        )
    if not data.batches.steps_per_epoch:
        raise UserError(f"No user of {plan.dataset} has enough items to train --model {plan.model} on.")
    return data


def _cut(plan: Plan) -> Cut:
    """Return the rule by which sequences are cut into windows."""
    settings, train = plan.model_settings, plan.train
    return Cut(settings.window, settings.examples == "prefixes", train.horizon, train.windows == "last")


def _in_memory(
    plan: Plan, sequences: Sequences, targets: StoredTargets | None, progress: Progress
) -> TrainingData:
    config, cut, known = plan.train, _cut(plan), None
    trained = sequences
    if not plan.final:
        trained = training(sequences, config.horizon, config.cold, config.seed)
        if config.cold:
            known, places = np.unique(trained.items, return_inverse=True)
            trained = Sequences(places.astype(np.int32), trained.offsets)
    soft = None
    if targets is not None:
        targets.check(len(trained.items))
        soft = _soft(plan, targets, 0, trained.lengths, known)
    if config.drop_items:
        total = len(trained.items)
        trained = drop_random_items(trained, config.drop_items, config.seed)
        progress.say(f"Dropped items at random: {len(trained.items):,} of {total:,} remain.")
    batches = Batches(
        *(trained, config.batch_size, cut.max_items, config.seed, cut.prefixes, cut.horizon, cut.last_only),
        soft,
    )
    if plan.final:
        return TrainingData(batches, None, known, "all")
    everyone = histories(sequences, "validation", config.horizon, config.cold, config.seed)
    return TrainingData(batches, everyone, known, "all")


def _streamed(
    plan: Plan, stored: StoredSequences, n_items: int, targets: StoredTargets | None, processes: Processes
) -> TrainingData:
    """Prepare data that stay in their files; the processes share the passes over them."""
    config, groups = plan.train, stored.groups
    known = warm = None
    if not plan.final:
        groups = training_groups(groups, n_items, config.horizon, config.cold, config.seed, processes)
        warm = np.flatnonzero(groups.item_counts(n_items, processes))
        if config.cold:
            known = warm
            groups = groups.mapped(
                lambda _, part: Sequences(np.searchsorted(known, part.items).astype(np.int32), part.offsets)
            )
    batches_of, firsts, whole = partial(StreamedBatches, processes=processes), np.zeros(0, np.int64), groups
    if config.drop_items or targets is not None:
        totals = groups.measured(lambda part: (len(part.items),), 1, processes)[:, 0]
        firsts = np.cumsum(totals) - totals  # places of the groups before
    if config.drop_items:
        share, seed = config.drop_items, config.seed
        groups = groups.mapped(lambda group, part: drop_random_items(part, share, seed, int(firsts[group])))
    if targets is not None:
        targets.check(int(totals.sum()))
        batches_of = partial(
            batches_of,
            soft=lambda group: _soft(plan, targets, int(firsts[group]), whole.read(group).lengths, known),
            soft_bytes=targets.place_bytes,
        )
    batches = batches_of(groups, config.batch_size, _cut(plan), config.seed)
    everyone = None if plan.final else HeldOut(stored, "validation", config.horizon, warm)
    return TrainingData(batches, everyone, known, "groups")


def _soft(
    plan: Plan, targets: StoredTargets, first: int, lengths: np.ndarray, known: np.ndarray | None
) -> SoftTargets:
    """Return the soft targets of sequences, with the places of the items that are not dropped.

    Args:
        plan: settings of the training.
        targets: of all training sequences.
        first: number of items of the sequences before.
        lengths: number of items of each sequence before any are dropped, int64 [rows].
        known: items that the model is over, int64 [N']; None for all items.
    """
    total, config = int(lengths.sum()), plan.train
    items, probabilities = targets.read(first, first + total)
    if known is not None:
        items = np.searchsorted(known, items).astype(np.int32)
    places = np.arange(total)
    if config.drop_items:
        places = kept_places(lengths, config.drop_items, config.seed, first)[0]
    return SoftTargets(items, probabilities, places, config.teacher_share)
