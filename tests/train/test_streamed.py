"""Training on sequences that stay in their files: the same steps as in memory in the same order, for one
process as for several, from any step on.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import signal
import threading
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator
from safetensors.numpy import load_file

from pipelines import artifacts
from pipelines.data.catalogue import load_catalogue
from pipelines.data.groups import Groups, training_groups
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import training
from pipelines.data.stored import StoredSequences
from pipelines.models import loading
from pipelines.processes import Processes
from pipelines.train import data, loop, streamed
from pipelines.train.batches import Batches, Cut, drop_random_items
from pipelines.train.data import training_data
from pipelines.train.memory import fits_in_memory
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.streamed import StreamedBatches
from pipelines.workspace import Dataset, Run, Workspace
from tests.conftest import PATIENCE, ListProgress
from tests.train.conftest import plan

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(1, 12, 60)
SEQUENCES = Sequences(np.arange(LENGTHS.sum(), dtype=np.int32), np.concatenate([[0], np.cumsum(LENGTHS)]))
ROWS = np.array([10, 5, 20, 1, 14, 10])
CUTS = {
    "windows": Cut(4),
    "last": Cut(4, last_only=True),
    "prefixes": Cut(4, prefixes=True),
    "horizon": Cut(4, prefixes=True, horizon=2),
}
SMALL = 600  # bytes of a block of some of these groups


def batches(
    cut: Cut, buffer: int = SMALL, processes: Processes | None = None, size: int = 7
) -> StreamedBatches:
    return StreamedBatches(Groups.of(SEQUENCES, ROWS), size, cut, 3, processes or Processes(), buffer)


def steps(source: Batches | StreamedBatches, count: int, first: int = 0) -> list[tuple[int, list, list]]:
    """Number, windows and users of so many steps."""
    found = []
    for number, windows, rows in itertools.islice(source.steps(first), count):
        padded = windows.padded(rows, 4).tolist()
        items = [[item for item in window if item >= 0] for window in padded]
        found.append((number, items, windows.users[rows].tolist()))
    return found


def rewrite(dataset: Dataset, rows: int) -> None:
    """Cut the sequences of a data set into row groups; their digest stays the same."""
    table = pq.read_table(dataset.sequences)
    pq.write_table(table, dataset.sequences, row_group_size=rows, write_page_checksum=True)


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_an_epoch_in_blocks_has_the_windows_of_an_epoch_in_memory(cut: Cut) -> None:
    """As many windows of each sequence, each of items that follow each other, in full steps."""
    source = batches(cut)
    memory = Batches(SEQUENCES, 7, 4, 3, cut.prefixes, cut.horizon, cut.last_only)
    assert (source.windows_per_epoch, source.steps_per_epoch) == (
        memory.windows_per_epoch,
        memory.steps_per_epoch,
    )
    assert (source.users, source.truncated) == (memory.users, memory.truncated)
    for epoch in range(2):
        assert len(source.blocks(epoch)) > 2
        first = epoch * source.steps_per_epoch
        found = steps(source, source.steps_per_epoch, first)
        assert [number for number, *_ in found] == list(range(first, first + source.steps_per_epoch))
        assert {len(windows) for _, windows, _ in found[:-1]} == {7}
        users = np.concatenate([users for *_, users in found])
        counts = np.bincount(users, minlength=len(SEQUENCES))
        assert counts.tolist() == cut.counts(SEQUENCES.lengths).tolist()
        for _, windows, owners in found:
            for items, user in zip(windows, owners, strict=True):
                assert items == list(range(items[0], items[0] + len(items)))
                assert SEQUENCES.offsets[user] <= items[0] <= items[-1] < SEQUENCES.offsets[user + 1]
        if cut.prefixes or cut.last_only:  # nothing is drawn but the order
            expected = steps(memory, memory.steps_per_epoch)
            assert sorted(w for _, windows, _ in found for w in windows) == sorted(
                w for _, windows, _ in expected for w in windows
            )


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_one_block_of_one_group_is_the_order_in_memory(cut: Cut) -> None:
    source = StreamedBatches(Groups.of(SEQUENCES, np.array([60])), 7, cut, 3)
    memory = Batches(SEQUENCES, 7, 4, 3, cut.prefixes, cut.horizon, cut.last_only)
    assert steps(source, 30) == steps(memory, 30)


def test_blocks_hold_all_groups_in_an_order_of_the_epoch_and_keep_to_their_size() -> None:
    source = batches(CUTS["windows"])
    orders = [np.concatenate(source.blocks(epoch)).tolist() for epoch in range(4)]
    assert all(sorted(order) == list(range(len(ROWS))) for order in orders)
    assert len({*map(tuple, orders)}) > 1
    bytes_of = [
        streamed.ITEM_BYTES * len(part.items)
        + streamed.WINDOW_BYTES * CUTS["windows"].counts(part.lengths).sum()
        for part in map(source.groups.read, range(len(ROWS)))
    ]
    for block in source.blocks(0):
        assert sum(bytes_of[group] for group in block[:-1]) <= SMALL


@pytest.mark.parametrize("buffer", [1, SMALL, 1 << 20])
def test_a_step_does_not_depend_on_where_training_began(buffer: int) -> None:
    source = batches(CUTS["windows"], buffer)
    through = steps(source, 3 * source.steps_per_epoch)
    for first in range(0, len(through), 5):
        assert steps(source, 1, first) == through[first : first + 1]


@pytest.mark.parametrize("count", [2, 3])
def test_processes_that_share_the_groups_have_the_steps_of_one(count: int) -> None:
    """Threads stand for the processes; none reads a group that another one has read in the same block."""
    barrier, sums = threading.Barrier(count, timeout=PATIENCE), [None] * count
    read: list[list[int]] = [[] for _ in range(count)]
    found: list[list] = [[] for _ in range(count)]

    def total(rank: int) -> Callable[[np.ndarray], np.ndarray]:
        def add(array: np.ndarray) -> np.ndarray:
            sums[rank] = array
            barrier.wait()
            result = np.sum(sums, axis=0, dtype=array.dtype)
            barrier.wait()
            return result

        return add

    def work(rank: int) -> None:
        groups = Groups.of(SEQUENCES, ROWS)
        seen = groups.mapped(lambda group, part: (read[rank].append(group), part)[1])
        source = StreamedBatches(seen, 7, CUTS["windows"], 3, Processes(rank, count, total(rank)), SMALL)
        read[rank].clear()  # the groups of the counting
        found[rank] = steps(source, source.steps_per_epoch)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)
    alone = batches(CUTS["windows"])
    expected = steps(alone, alone.steps_per_epoch)
    assert all(part == expected for part in found)
    assert sorted(sum(read, [])) == list(range(len(ROWS)))


@pytest.mark.parametrize("settings", [{}, {"horizon": 2}, {"cold": 0.3, "seed": 5}])
def test_the_training_part_of_groups_is_that_of_all_sequences(toy: Workspace, settings: dict) -> None:
    path = toy.require_dataset().sequences
    rewrite(toy.require_dataset(), 30)
    stored = StoredSequences(path, 60)
    assert len(stored.groups) == 7
    assert stored.interactions == len(load_sequences(path).items)
    expected = training(load_sequences(path, 60), **settings)
    groups = training_groups(stored.groups, 60, **settings)
    parts = [groups.read(group) for group in range(len(groups))]
    assert np.concatenate([part.items for part in parts]).tolist() == expected.items.tolist()
    assert np.concatenate([part.lengths for part in parts]).tolist() == expected.lengths.tolist()
    assert groups.item_counts(60, Processes()).tolist() == np.bincount(expected.items, minlength=60).tolist()


def test_items_are_dropped_at_random_as_in_memory(toy: Workspace, sids: str, progress: ListProgress) -> None:
    dataset = toy.require_dataset()
    rewrite(dataset, 30)
    wanted = plan(sids, drop_items=0.4, shuffle="groups")
    batches = training_data(wanted, dataset.sequences, 60, progress).batches
    assert isinstance(batches, StreamedBatches)
    parts = [batches.groups.read(group) for group in range(len(batches.groups))]
    expected = drop_random_items(training(load_sequences(dataset.sequences)), 0.4, 0)
    assert np.concatenate([part.items for part in parts]).tolist() == expected.items.tolist()


def trained_losses(toy: Workspace, sids: str, source: Batches | StreamedBatches, count: int) -> list[float]:
    """Losses of the first steps of a model on batches."""
    import torch

    config = plan(sids)
    torch.manual_seed(0)
    model = loading.build(config.model_settings, load_catalogue(toy.require_dataset(), sids))
    trainer = loop.Trainer(model, source, config.train, Accelerator(cpu=True))
    found = source.steps(0)
    return [trainer.training_step(*next(found))[0].item() for _ in range(count)]


def test_losses_are_those_of_the_same_order_in_memory(toy: Workspace, sids: str) -> None:
    dataset = toy.require_dataset()
    rewrite(dataset, 30)
    groups = training_groups(StoredSequences(dataset.sequences, 60).groups, 60)
    memory = Groups.of(training(load_sequences(dataset.sequences)), groups.rows)
    of_files, of_memory = (
        trained_losses(toy, sids, StreamedBatches(source, 32, Cut(8), 0, buffer=2000), 9)
        for source in (groups, memory)
    )
    assert of_files == of_memory
    in_one_order = Batches(training(load_sequences(dataset.sequences)), 32, 8, 0)
    assert of_files != trained_losses(toy, sids, in_one_order, 9)


def losses(run: Run) -> dict[int, float]:
    rows = artifacts.read(run.history, "history").to_pylist()
    return {row["step"]: row["value"] for row in rows if row["measure"] in ("loss", "recall@10")}


def test_a_resumed_run_goes_on_in_its_order(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, even where the machine would now hold the sequences in memory."""
    rewrite(toy.require_dataset(), 30)
    monkeypatch.setattr(streamed, "BUFFER", 2000)
    monkeypatch.setattr(loop, "RECORD_EVERY", 1)
    step = loop.Trainer.training_step

    def interrupted(self: loop.Trainer, number: int, *rest: object) -> tuple:
        if number == 6:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(data, "fits_in_memory", lambda interactions: False)
        whole = train_run(toy, plan(sids), progress, name="whole")
        assert any("--shuffle groups): 7 row groups" in message for message in progress.messages)
        patch.setattr(loop.Trainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(toy, plan(sids), progress, name="halves")
    train_run(toy, plan(sids), progress, name="halves", existing="resume")
    halves = toy.run("halves")
    assert json.loads(halves.config.read_text())["shuffle"] == "groups"
    assert losses(whole) == losses(halves)
    first, second = load_file(whole.weights), load_file(halves.weights)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_two_processes_train_on_files_as_one(
    toy: Workspace, maskgr: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(toy.require_dataset(), 30)
    options = [
        "--preset",
        "smoke",
        "--model",
        "sasrec",
        "--steps",
        6,
        "--validations",
        2,
        "--shuffle",
        "groups",
    ]
    for count in (1, 2):
        done = maskgr("train", *options, "--processes", count, "--name", f"by-{count}", "--precision", "fp32")
        assert done.returncode == 0, done.stderr
        assert "--shuffle groups): 7 row groups" in done.stderr
    one, two = (losses(toy.run(f"by-{count}")) for count in (1, 2))
    assert list(one) == list(two)
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-4)


def test_plans_of_earlier_versions_are_the_same_plans(sids: str) -> None:
    wanted = plan(sids)
    assert "shuffle" not in wanted.to_dict()["train"]
    assert Plan.from_dict(wanted.to_dict()) == wanted
    other = plan(sids, shuffle="groups")
    assert other.name != wanted.name
    assert Plan.from_dict(other.to_dict()) == other


def test_sequences_stay_in_files_above_a_share_of_the_memory(
    toy: Workspace, sids: str, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fits_in_memory(1_000_000)
    assert not fits_in_memory(10**13)
    path = toy.require_dataset().sequences
    assert training_data(plan(sids), path, 60, progress).shuffle == "all"
    monkeypatch.setattr(data, "fits_in_memory", lambda interactions: interactions < 1600)
    assert training_data(plan(sids), path, 60, progress).shuffle == "groups"
    assert training_data(plan(sids, shuffle="all"), path, 60, progress).shuffle == "all"
    assert training_data(plan(sids), path, 60, progress, "all").shuffle == "all"


def test_a_final_run_and_cold_items_are_read_from_files_too(
    toy: Workspace, sids: str, progress: ListProgress
) -> None:
    dataset = toy.require_dataset()
    rewrite(dataset, 30)
    cold = plan(sids, cold=0.2, shuffle="groups")
    in_memory = dataclasses.replace(cold, train=dataclasses.replace(cold.train, shuffle="all"))
    one, other = (training_data(p, dataset.sequences, 60, progress) for p in (cold, in_memory))
    assert one.known.tolist() == other.known.tolist()
    assert one.batches.windows_per_epoch == other.batches.windows_per_epoch
    assert one.validation.warm_items.tolist() == other.validation.warm_items.tolist()
    run = train_run(toy, cold, progress, name="cold")
    assert json.loads(run.config.read_text())["state"] == "finished"
