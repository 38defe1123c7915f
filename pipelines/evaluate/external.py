"""Evaluation of external lists, the recommendations of another program, by the protocol of `run`."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import Split, histories, training
from pipelines.decode.config import options
from pipelines.errors import UserError
from pipelines.evaluate.beside import measure_beside
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.describe import described_data
from pipelines.evaluate.popularity import measure_popularity
from pipelines.evaluate.recommend import Recommendations
from pipelines.evaluate.report import read_metrics, write_evaluation
from pipelines.evaluate.run import Evaluation
from pipelines.options import has_no_effect
from pipelines.progress import Progress
from pipelines.temporal import TemporalSplit
from pipelines.workspace import Dataset

MATTERS = ("beams", "exclude_seen")  # settings of decoding that have an effect on external lists


@dataclass(frozen=True, eq=False)
class Lists:
    """Entries of the lists of another program, list by list, best first.

    Attributes:
        path: file of the lists.
        users: number of the user, ascending, int64 [entries].
        items: number of the item, −1 for what is no item of the catalogue, int64 [entries].
        repeated: true for an entry whose item stands earlier in the same list, bool [entries].
    """

    path: Path
    users: np.ndarray
    items: np.ndarray
    repeated: np.ndarray

    @property
    def places(self) -> NDArray[np.int64]:
        """Place of each entry in its list, 0 for the first, int64 [entries]."""
        return np.arange(len(self.users)) - np.searchsorted(self.users, self.users)

    @property
    def longest(self) -> int:
        """Number of entries of the longest list."""
        return int(self.places.max(initial=-1)) + 1

    def only(self, kept: np.ndarray) -> Lists:
        """Return the lists without some entries; later ones move up.

        Args:
            kept: true for the entries that stay, bool [entries].
        """
        return Lists(self.path, self.users[kept], self.items[kept], self.repeated[kept])


def settings_for(lists: Lists, config: EvalConfig, progress: Progress) -> EvalConfig:
    """Return the settings with which lists, and runs that are compared with them, are evaluated.

    K is lowered to the length of the longest list, since places beyond it would count as misses.

    Raises:
        UserError: the horizon is above 1, or a sample of users is asked for.
    """
    if config.users is not None:
        raise has_no_effect(["--users"], "--recommendations", "which measures the lists of all users")
    if config.horizon not in (None, 1):
        raise UserError(
            f"--horizon {config.horizon}: --recommendations measures lists of single items, one item ahead. "
            "Leave --horizon out."
        )
    decoding = config.decoding
    if lists.longest < decoding.beams:
        progress.say(
            f"The longest list has {lists.longest:,} entries: --beams {lists.longest} in place of "
            f"{decoding.beams}."
        )
        decoding = dataclasses.replace(decoding, beams=lists.longest)
    return dataclasses.replace(config, decoding=decoding, horizon=1)


def check_settings(config: EvalConfig) -> None:
    """Check that no setting is given that matters to runs alone.

    Raises:
        UserError: one is.
    """
    names = [name for name in config.decoding.changed if name not in MATTERS]
    flags = options(names) + [f"--{name}" for name in ("tokens", "precision") if _changed(config, name)]
    if flags:
        raise has_no_effect(flags, "--recommendations without a run", "which is decoded already")


def evaluate_lists(
    dataset: Dataset, name: str, lists: Lists, config: EvalConfig, progress: Progress
) -> Evaluation:
    """Measure the lists of another program over all users of a split.

    A user without a list counts as a miss.

    Args:
        dataset: data set of the users and items.
        name: name of the result.
        lists: lists of users and items of the data set.
        config: split, list length K and treatment of seen items, see `settings_for`.
        progress: where progress is reported.

    Raises:
        UserError: the data set cannot be read, or the result cannot be written.
    """
    started = time.monotonic()
    catalogue = artifacts.read(dataset.items, "items", columns=["item"])
    sequences = load_sequences(dataset.sequences, len(catalogue))
    users, decoding = histories(sequences, config.split), config.decoding
    if split := TemporalSplit.of(dataset.sequences):
        progress.say(split.measured(config.split, dataset.name))
    lists = _of_split(lists, users)
    if without := len(users) - len(np.unique(lists.users)):
        progress.say(f"{without:,} of {len(users):,} users have no list and count as misses.")
    lists = _treat_seen(lists, users, len(catalogue), decoding.exclude_seen, progress)
    folder = dataset.external(name) / _name(config)
    recorded = {
        "lists": lists.path.name,
        "split": config.split,
        "beams": decoding.beams,
        "exclude_seen": decoding.exclude_seen,
        "horizon": 1,
    }
    write_evaluation(
        folder,
        split=users,
        recommendations=_recommendations(lists, len(users), decoding.beams),
        config=recorded,
        inputs={"sequences": dataset.sequences, "items": dataset.items, "recommendations": lists.path},
        seconds=time.monotonic() - started,
    )
    counts = np.bincount(training(sequences).items, minlength=len(catalogue))
    popularity = measure_popularity(counts, users, decoding.beams, decoding.exclude_seen)
    description = _description(dataset, lists, config, len(catalogue))
    beside = partial(measure_beside, folder, users, counts, config, dataset)
    return Evaluation(folder, description, read_metrics(folder), popularity, beside)


def _of_split(lists: Lists, users: Split) -> Lists:
    """Return the lists of the users of a split, with positions in the split in place of their numbers."""
    lists = lists.only(np.isin(lists.users, users.users))
    return dataclasses.replace(lists, users=np.searchsorted(users.users, lists.users))


def _treat_seen(lists: Lists, users: Split, n_items: int, exclude: bool, progress: Progress) -> Lists:
    """Report the number of entries that are items of the user's history, and leave them out if requested."""
    of_histories = np.repeat(np.arange(len(users)), users.lengths) * n_items + users.items
    seen = (lists.items >= 0) & np.isin(lists.users * n_items + lists.items, of_histories)  # [entries]
    if count := int(seen.sum()):
        action = "they are left out" if exclude else "--exclude-seen leaves them out"
        progress.say(f"{count:,} of {len(seen):,} entries are items of the user's history: {action}.")
    return lists.only(~seen) if exclude else lists


def _recommendations(lists: Lists, users: int, beams: int) -> Recommendations:
    """Return the first K entries of each list; the score of an entry is −1 times its place, from 0.

    An entry that is no item, or that repeats one, is −1 and keeps its place.
    """
    kept = lists.only(lists.places < beams)
    rows, places = kept.users, kept.places
    items = np.full((users, beams, 1), -1, np.int64)
    items[rows, places, 0] = np.where(kept.repeated, -1, kept.items)
    scores = np.full((users, beams), -np.inf, np.float32)
    scores[rows, places] = -places
    invalid, duplicates = (
        np.bincount(rows[which], minlength=users) for which in (kept.items < 0, kept.repeated)
    )
    return Recommendations(items, scores, invalid, duplicates)


def _name(config: EvalConfig) -> str:
    """Return the name of the result's folder, e.g. "validation-k20-exclude-seen"."""
    decoding = config.decoding
    parts = [config.split] * (config.split != "test") + [f"k{decoding.beams}"]
    return "-".join(parts + ["exclude-seen"] * decoding.exclude_seen)


def _description(dataset: Dataset, lists: Lists, config: EvalConfig, n_items: int) -> str:
    size = f"{config.decoding.beams} of {n_items:,} items"
    excluded = ", seen items excluded" if config.decoding.exclude_seen else ""
    return f"{described_data(dataset)} · lists of {lists.path.name} · {size}{excluded}"


def _changed(config: EvalConfig, name: str) -> bool:
    """Return True if a field differs from its default."""
    default = next(field.default for field in dataclasses.fields(config) if field.name == name)
    return bool(getattr(config, name) != default)
