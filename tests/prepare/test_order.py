"""Order of a user's items: ties are counted, and kept or drawn."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from pipelines.prepare import coded
from pipelines.prepare.coded import Coded
from pipelines.prepare.order import Ordered

USERS = 400


def ordered(rows: list[tuple[str, str, int]], ties: str = "file", seed: int = 0) -> Ordered:
    """Sequences of rows; the items are numbered in the order of their ids."""
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    catalogue = log.select(pl.col("item_id").unique().sort()).with_row_index("item")
    return Ordered(Coded.of(log), np.ones(len(log), bool), catalogue, ties, seed)


def items(rows: list[tuple[str, str, int]], ties: str = "file", seed: int = 0) -> list[list[int]]:
    return [row for part in ordered(rows, ties, seed).parts for row in part["items"].to_pylist()]


def test_ties_by_hand() -> None:
    rows = [("a", "x", 1), ("a", "y", 1), ("a", "z", 1), ("b", "x", 1), ("b", "y", 2), ("b", "z", 2)]
    rows += [("c", "x", 1), ("c", "y", 1), ("c", "z", 2), ("d", "x", 1)]
    found = ordered(rows)
    assert (found.tied_pairs, found.tied_last) == (4, 0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_shuffled_ties_have_no_order_and_times_keep_theirs(seed: int) -> None:
    """Every user takes items 0 … 5 on two days; within a day the file is in the order of the items."""
    rows = [(f"u{u}", f"i{n}", n // 3) for n, u in itertools.product(range(6), range(USERS))]
    assert items(rows) == [list(range(6))] * USERS
    shuffled = items(rows, "shuffle", seed)
    assert all({*row[:3]} == {0, 1, 2} and {*row[3:]} == {3, 4, 5} for row in shuffled)
    assert (
        0.4 < sum(row[5] > row[4] for row in shuffled) / USERS < 0.6
    )  # all of them in the order of the file
    assert len({*map(tuple, shuffled)}) == 36
    assert shuffled == items(rows, "shuffle", seed)


def test_the_seed_decides_the_order() -> None:
    rows = [("u", f"i{n:02}", 0) for n in range(50)]
    orders = [items(rows, "shuffle", seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("ties", ["file", "shuffle"])
def test_sequences_do_not_depend_on_the_size_of_a_part(ties: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{rng.integers(40)}", f"i{rng.integers(30)}", int(rng.integers(9))) for _ in range(700)]
    whole = ordered(rows, ties)
    monkeypatch.setattr(coded, "PART", 50)
    cut = ordered(rows, ties)
    assert len(whole.parts) == 1 and len(cut.parts) > 10
    assert [row for part in cut.parts for row in part.to_pylist()] == whole.parts[0].to_pylist()
    assert (cut.tied_pairs, cut.tied_last) == (whole.tied_pairs, whole.tied_last)
    first = {user: number for number, user in reversed(list(enumerate(user for user, *_ in rows)))}
    assert whole.parts[0]["user_id"].to_pylist() == sorted(first, key=lambda user: first[user])
