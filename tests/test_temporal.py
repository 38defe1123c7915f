"""Temporal split: against an oracle in plain Python over a small log with many equal times, and for all that
reads it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.data.held_out import HeldOut
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import Split, histories, training
from pipelines.data.stored import StoredSequences
from pipelines.embed.place import training_co_occurrences
from pipelines.errors import UserError
from pipelines.export.build import export_dataset
from pipelines.export.config import ExportConfig
from pipelines.housekeeping.forget import forget_users
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.inventory import overview
from pipelines.prepare import coded
from pipelines.temporal import TemporalSplit
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress

Row = tuple[str, str, int]
START = 1_600_000_000  # 2020-09-13 12:26:40
VALIDATION, TEST = "2020-09-13T12:27:20", "2020-09-13 12:27:30"  # 40 and 50 seconds later


def made_log() -> list[Row]:
    """Users who begin and end at any time, and items that come up later; distinct rows in random order."""
    rng = np.random.default_rng(3)
    rows = set[Row]()
    for user in range(80):
        first, last = np.sort(rng.integers(0, 61, 2))
        for time in rng.integers(first, last + 1, rng.integers(1, 12)):
            rows.add((f"u{user}", f"i{rng.integers(0, 8 + time)}", START + int(time)))
    return [sorted(rows)[place] for place in rng.permutation(len(rows))]


def imported(workspace: Workspace, rows: list[Row], name: str = "made", **options: Any) -> Dataset:
    """Import rows, with a temporal split at `VALIDATION` and `TEST` unless the options say otherwise."""
    file = workspace.root.parent / f"{name}.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(file)
    usual = {"split": "temporal", "validation_from": VALIDATION, "test_from": TEST}
    config = ImportConfig(**(options if "split" in options else usual | options))
    return import_dataset(workspace, name, config, ListProgress(), interactions=[file])


class Oracle:
    """Histories, targets and what is left out of a log that two times cut, by loops."""

    def __init__(self, rows: list[Row], validation: int, test: int) -> None:
        self.log: dict[str, list[tuple[int, str]]] = {}
        for user, item, time in rows:
            self.log.setdefault(user, []).append((time, item))
        for sequence in self.log.values():
            sequence.sort(key=lambda entry: entry[0])  # stable: ties stay in the order of the file
        self.begins = {"validation": validation, "test": test}
        self.training = {
            user: [item for time, item in sequence if time < validation]
            for user, sequence in self.log.items()
        }
        self.trained = {item for items in self.training.values() for item in items}

    def period(self, name: str) -> tuple[dict[str, tuple[list[str], str]], Counter[str]]:
        """Return history and target of each user who has one, and the counts."""
        begin = self.begins[name]
        end = self.begins["test"] if name == "validation" else 10**12
        found, counts = {}, Counter[str]()
        for user, sequence in self.log.items():
            inside = [item for time, item in sequence if begin <= time < end]
            counts["interactions"] += len(inside)
            if not inside:
                continue
            counts["users"] += 1
            if not self.training[user]:
                counts["new"] += 1
            elif inside[0] not in self.trained:
                counts["untrained"] += 1
            else:
                counts["targets"] += 1
                found[user] = [item for time, item in sequence if time < begin], inside[0]
        return found, counts


def names(dataset: Dataset) -> tuple[list[str], list[str]]:
    users = artifacts.read(dataset.sequences, "sequences")["user_id"].to_pylist()
    return users, artifacts.read(dataset.items, "items")["item_id"].to_pylist()


def lists(sequences: Sequences) -> list[list[int]]:
    return [part.tolist() for part in np.split(sequences.items, sequences.offsets[1:-1])]


def by_user(dataset: Dataset, split: Split) -> dict[str, tuple[list[str], str]]:
    users, items = names(dataset)
    rows = zip(split.users, lists(split), split.first_target, strict=True)
    return {users[user]: ([items[item] for item in row], items[target]) for user, row, target in rows}


@pytest.fixture
def rows() -> list[Row]:
    return made_log()


@pytest.fixture
def oracle(rows: list[Row]) -> Oracle:
    return Oracle(rows, START + 40, START + 50)


@pytest.fixture
def dataset(workspace: Workspace, rows: list[Row]) -> Dataset:
    return imported(workspace, rows)


@pytest.mark.parametrize("period", ["validation", "test"])
def test_membership_is_that_of_the_oracle(dataset: Dataset, oracle: Oracle, period: str) -> None:
    sequences, (users, items) = load_sequences(dataset.sequences), names(dataset)
    trained = [[items[item] for item in row] for row in lists(training(sequences))]
    assert dict(zip(users, trained, strict=True)) == oracle.training
    expected, counts = oracle.period(period)
    assert min(counts.values()) > 0 and len(counts) == 5  # the log has all cases
    assert by_user(dataset, histories(sequences, period)) == expected
    split = TemporalSplit.of(dataset.sequences)
    assert split and split.counts[period] == dict(counts)
    assert f"{counts['new']} users without a training interaction" in split.line(period)


def test_every_interaction_is_in_one_part(dataset: Dataset, rows: list[Row], tmp_path: Path) -> None:
    """Also of an export, whose files have the interactions by time."""
    export_dataset(dataset, ExportConfig(split=True), tmp_path / "out")
    files = [tmp_path / "out" / f"interactions.{part}.csv" for part in ("train", "validation", "test")]
    parts = [pl.read_csv(file).select("user_id", "item_id", "timestamp").rows() for file in files]
    assert sorted(row for part in parts for row in part) == sorted(rows)
    spans = [(min(time for *_, time in part), max(time for *_, time in part)) for part in parts]
    assert spans[0][1] < START + 40 <= spans[1][0] <= spans[1][1] < START + 50 <= spans[2][0]
    split = TemporalSplit.of(dataset.sequences)
    assert split and [len(part) for part in parts[1:]] == [
        split.counts[period]["interactions"] for period in ("validation", "test")
    ]


@pytest.mark.parametrize("shares", [(0.8, 0.9), (0.5, 0.51), (0.333, 0.75)])
def test_a_quantile_is_the_time_that_follows_this_share(
    workspace: Workspace, rows: list[Row], shares: tuple[float, float]
) -> None:
    """Interactions of that time belong to the later period, however many they are."""
    given = {"validation_from": str(shares[0]), "test_from": str(shares[1])}
    times = sorted(time for *_, time in rows)
    cuts = [times[int(share * len(times))] for share in shares]
    if cuts[0] == cuts[1]:
        with pytest.raises(UserError, match="has no interaction between"):
            imported(workspace, rows, **given)
        return
    dataset, oracle = imported(workspace, rows, **given), Oracle(rows, *cuts)
    split = TemporalSplit.of(dataset.sequences)
    assert split and [split.validation_from, split.test_from] == cuts
    for share, cut in zip(shares, cuts, strict=True):
        assert sum(time < cut for time in times) <= share * len(times) < sum(time <= cut for time in times)
    assert by_user(dataset, histories(load_sequences(dataset.sequences), "test")) == oracle.period("test")[0]


def test_the_size_of_a_part_changes_nothing(
    workspace: Workspace, rows: list[Row], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded, "PART", 20)
    again = imported(workspace, rows, "again")
    assert artifacts.digest(again.sequences) == artifacts.digest(dataset.sequences)
    assert TemporalSplit.of(again.sequences) == TemporalSplit.of(dataset.sequences)


def test_milliseconds_and_dates(workspace: Workspace, rows: list[Row], oracle: Oracle) -> None:
    fine = [(user, item, 1000 * time) for user, item, time in rows]
    dataset = imported(workspace, fine)
    found = by_user(dataset, histories(load_sequences(dataset.sequences), "test"))
    assert found == oracle.period("test")[0]
    split = TemporalSplit.of(dataset.sequences)
    assert split and split.name == "temporal (2020-09-13 12:27:20, 2020-09-13 12:27:30)"


@pytest.mark.parametrize("period", ["validation", "test"])
def test_files_are_read_as_memory(dataset: Dataset, period: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In row groups of 7 users and chunks of 5, some of which have no target; and samples."""
    pq.write_table(pq.read_table(dataset.sequences), dataset.sequences, row_group_size=7)
    monkeypatch.setattr(StoredSequences.chunks, "__defaults__", (3,))
    whole = load_sequences(dataset.sequences)
    memory, stored = histories(whole, period), StoredSequences(dataset.sequences)
    split = HeldOut(stored, period, 1, memory.warm_items)
    chunks = list(split.chunks())
    assert len(split) == len(memory) == sum(map(len, chunks)) < len(stored)
    assert all(map(len, chunks)) and len(chunks) < len(stored) / 3
    for drawn, same in ((split.sample(9, 1), memory.sample(9, 1)), (split.sample(10**6, 1), memory)):
        parts = list(drawn.chunks())
        assert np.concatenate([part.users for part in parts]).tolist() == same.users.tolist()
        assert [row for part in parts for row in lists(part)] == lists(same)
        assert np.concatenate([part.targets for part in parts]).tolist() == same.targets.tolist()
    trained = [row for group in range(len(stored.groups)) for row in lists(training(stored.read(group)))]
    assert trained == lists(training(whole))


def test_cold_items_and_several_targets(dataset: Dataset) -> None:
    sequences = load_sequences(dataset.sequences)
    plain, cold = histories(sequences, "test"), histories(sequences, "test", cold=0.3, seed=1)
    assert lists(plain) == lists(cold) and (plain.targets == cold.targets).all()
    assert plain.warm_items is not None and np.isin(plain.targets, plain.warm_items).all()
    assert cold.warm_items is not None and not np.isin(cold.targets, cold.warm_items).all()
    with pytest.raises(UserError, match="--horizon 2 needs a leave-one-out split"):
        training(sequences, 2)


def test_co_occurrences_see_training_alone(workspace: Workspace, rows: list[Row], dataset: Dataset) -> None:
    """They are those of a log whose later interactions are of one other item."""
    later = [(user, item if time < START + 40 else "i0", time) for user, item, time in rows]
    other = imported(workspace, later, "other")
    one, two = names(dataset)[1], names(other)[1]
    counts = training_co_occurrences(other, len(two)).toarray()
    same = training_co_occurrences(dataset, len(one)).toarray()
    places = [one.index(item) for item in two]
    assert (same[np.ix_(places, places)] == counts).all() and counts.any()
    assert same.sum() == counts.sum()


def test_what_is_left_after_users_are_forgotten(
    workspace: Workspace, dataset: Dataset, rows: list[Row], oracle: Oracle
) -> None:
    """Targets and counts are those of the log without these users, whose items may be trained no more."""
    gone = sorted(oracle.log)[1::2]
    forget_users(workspace, dataset.name, gone)
    left = Oracle([row for row in rows if row[0] not in gone], START + 40, START + 50)
    assert left.trained < oracle.trained
    split = TemporalSplit.of(dataset.sequences)
    for period in ("validation", "test"):
        expected, counts = left.period(period)
        others = {user: found for user, found in oracle.period(period)[0].items() if user not in gone}
        assert expected.items() < others.items()  # some targets are lost with their items' training
        assert by_user(dataset, histories(load_sequences(dataset.sequences), period)) == expected
        assert split and split.counts[period] == dict(counts)


def test_a_data_set_keeps_what_it_holds_out(workspace: Workspace, rows: list[Row]) -> None:
    """A later validation is no leak, an earlier one and leave-one-out are."""
    long = [row for row in rows if sum(other[0] == row[0] for other in rows) > 2]
    imported(workspace, long)
    for options in ({"split": "leave-one-out"}, {"validation_from": "2020-09-13T12:27:19"}):
        with pytest.raises(UserError, match="holds out the interactions from 2020-09-13 12:27:20 on"):
            imported(workspace, long, **options)
    imported(workspace, long, validation_from="2020-09-13T12:27:21")
    imported(workspace, long, "plain", split="leave-one-out")
    with pytest.raises(UserError, match="holds out the interactions of each user's last two items"):
        imported(workspace, long, "plain")
    shown = {view.name: view.split for view in overview(workspace).datasets}
    assert shown == {
        "made": "temporal (2020-09-13 12:27:21, 2020-09-13 12:27:30)",
        "plain": "leave-one-out",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_column": "none"}, "made have no times, only an order"),
        ({"validation_from": "2020-09-12"}, "has no interaction before --validation-from 2020-09-12"),
        ({"test_from": "2020-09-14"}, "has no interaction from --test-from 2020-09-14 on"),
        ({"validation_from": "0.9", "test_from": "0.8"}, "no interaction between"),
        ({"validation_from": "1.5"}, "--validation-from '1.5' is neither a quantile"),
        ({"test_from": "soon"}, "--test-from 'soon' is neither a quantile"),
        ({"split": "leave-one-out", "test_from": "0.7"}, "--test-from 0.7 needs --split temporal"),
    ],
)
def test_refusals(workspace: Workspace, rows: list[Row], options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        imported(workspace, rows, **options)
    assert not workspace.dataset("made").sequences.exists()


def test_other_numbers_take_quantiles_alone(workspace: Workspace, rows: list[Row]) -> None:
    small = [(user, item, time - START) for user, item, time in rows]
    with pytest.raises(UserError, match="too small for times since 1970"):
        imported(workspace, small)
    dataset = imported(workspace, small, validation_from="0.7", test_from="0.85")
    split = TemporalSplit.of(dataset.sequences)
    assert split and split.name == f"temporal ({split.validation_from}, {split.test_from})"


def test_damaged_columns_are_refused(dataset: Dataset) -> None:
    table = pq.read_table(dataset.sequences)
    place = table.column_names.index("test_begin")
    wrong = table.set_column(place, "test_begin", table["test_begin"].combine_chunks().take([0] * len(table)))
    pq.write_table(wrong, dataset.sequences)
    for read in (load_sequences, lambda path: StoredSequences(path).read(0)):
        with pytest.raises(UserError, match="do not fit the items of row"):
            read(dataset.sequences)
