"""Steps: every interaction is seen, the same whenever asked, cut without loss."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.data.sequences import Sequences
from pipelines.train.batches import Batches, drop_random_items, split_step

LENGTHS = np.array([1, 3, 5, 5, 12, 40])
SEQUENCES = Sequences(np.arange(LENGTHS.sum(), dtype=np.int32), np.concatenate([[0], np.cumsum(LENGTHS)]))


def epoch(batches: Batches, number: int) -> list[list[int]]:
    rows = []
    first = number * batches.steps_per_epoch
    for step, windows, chosen in batches.steps(first):
        if step >= first + batches.steps_per_epoch:
            return rows
        rows += [[i for i in row if i >= 0] for row in windows.padded(chosen, batches.max_items).tolist()]
    return rows


def test_an_epoch_holds_short_sequences_once_and_windows_of_long_ones() -> None:
    batches = Batches(SEQUENCES, batch_size=3, max_items=5, seed=0)
    assert batches.windows_per_epoch == 1 + 1 + 1 + 1 + 3 + 8
    for number in range(3):
        rows = epoch(batches, number)
        assert len(rows) == batches.windows_per_epoch
        short = sorted(row for row in rows if row[0] < LENGTHS[:4].sum())
        assert short == [list(range(0, 1)), list(range(1, 4)), list(range(4, 9)), list(range(9, 14))]
        assert all(
            row == list(range(row[0], row[0] + 5)) for row in rows if row[0] >= 14
        )  # consecutive items of one user
    seen = {item for number in range(60) for row in epoch(batches, number) for item in row}
    assert seen == set(range(LENGTHS.sum()))  # no interaction is cut off for good


def test_the_last_items_alone_train_where_they_are_asked_for() -> None:
    batches = Batches(SEQUENCES, batch_size=3, max_items=5, seed=0, last_only=True)
    ends = [*SEQUENCES.offsets[1:].tolist()]
    for number in range(2):
        assert sorted(epoch(batches, number)) == [
            list(range(max(end - 5, start), end)) for start, end in zip([0, *ends], ends, strict=False)
        ]
    assert epoch(batches, 0) != epoch(batches, 1)


@pytest.mark.parametrize("prefixes", [False, True])
def test_a_window_is_its_users(prefixes: bool) -> None:
    windows = Batches(SEQUENCES, batch_size=3, max_items=5, seed=0, prefixes=prefixes).epoch(1)
    starts, ends = SEQUENCES.offsets[windows.users], SEQUENCES.offsets[windows.users + 1]
    rows = np.repeat(np.arange(len(windows)), windows.lengths)
    assert ((windows.items >= starts[rows]) & (windows.items < ends[rows])).all()


def test_a_step_does_not_depend_on_where_training_began() -> None:
    batches = Batches(SEQUENCES, batch_size=4, max_items=5, seed=3)
    through = batches.steps(0)
    for step, windows, rows in (next(through) for _ in range(12)):
        again, other, same = next(batches.steps(step))
        assert again == step
        assert np.array_equal(other.padded(same, 5), windows.padded(rows, 5))
    assert epoch(batches, 0) != epoch(batches, 1)
    assert epoch(Batches(SEQUENCES, 4, 5, seed=4), 0) != epoch(batches, 0)


@pytest.mark.parametrize("micro", [1, 7, 30, 10_000])
def test_a_cut_loses_nothing_and_keeps_to_its_size(micro: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 25, 100)
    pieces = split_step(lengths, micro)
    assert sorted(np.concatenate(pieces).tolist()) == list(range(100))
    assert all(lengths[piece].sum() <= 1.5 * micro + 2 * lengths.max() for piece in pieces)
    ordered = lengths[np.concatenate(pieces)]
    assert (np.diff(ordered) <= 0).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.375, 0.75])
def test_a_share_of_the_items_is_left_out_and_three_are_kept(share: float) -> None:
    kept = drop_random_items(SEQUENCES, share, seed=0)
    for row, length in enumerate(LENGTHS):
        had = SEQUENCES.items[SEQUENCES.offsets[row] : SEQUENCES.offsets[row + 1]].tolist()
        has = kept.items[kept.offsets[row] : kept.offsets[row + 1]].tolist()
        assert len(has) == max(min(3, length), round(length * (1 - share)))
        assert has == sorted(set(has))  # in the old order, none twice
        assert set(has) <= set(had)
    assert kept.items.tolist() == drop_random_items(SEQUENCES, share, seed=0).items.tolist()
    assert (kept.items.tolist() == drop_random_items(SEQUENCES, share, seed=1).items.tolist()) == (share == 0)


def test_which_items_are_left_out_is_up_to_chance_alone() -> None:
    """A row of 40 items at a half: each place is kept in a half of the seeds, within five standard errors."""
    often = np.mean(
        [
            np.isin(SEQUENCES.items[-40:], drop_random_items(SEQUENCES, 0.5, seed).items)
            for seed in range(400)
        ],
        axis=0,
    )
    assert np.abs(often - 0.5).max() < 5 * 0.5 / 20
