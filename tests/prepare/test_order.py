"""Order of a user's items: ties are counted, and kept or drawn."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from pipelines.prepare.order import in_order, places_of, sequences, tied

USERS = 400


def log(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def test_ties_by_hand() -> None:
    rows = [("a", "x", 1), ("a", "y", 1), ("a", "z", 1), ("b", "x", 1), ("b", "y", 2), ("b", "z", 2)]
    rows += [("c", "x", 1), ("c", "y", 1), ("c", "z", 2), ("d", "x", 1)]
    assert tied(in_order(log(rows), "timestamp", np.arange(len(rows))), "timestamp") == (4, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_shuffled_ties_have_no_order_and_times_keep_theirs(seed: int) -> None:
    """Every user takes items 0 … 5 on two days; within a day the file is in the order of the items."""
    numbers = {f"i{n}": n for n in range(6)}
    rows = [(f"u{u}", f"i{n}", n // 3) for n, u in itertools.product(range(6), range(USERS))]
    catalogue = pl.DataFrame({"item_id": list(numbers), "item": list(numbers.values())})

    def items(ties: str) -> list[list[int]]:
        ordered = in_order(log(rows), "timestamp", places_of(len(rows), ties, seed))
        return sequences(ordered, log(rows), catalogue)["items"].to_list()

    assert items("file") == [list(range(6))] * USERS
    shuffled = items("shuffle")
    assert all({*row[:3]} == {0, 1, 2} and {*row[3:]} == {3, 4, 5} for row in shuffled)
    assert (
        0.4 < sum(row[5] > row[4] for row in shuffled) / USERS < 0.6
    )  # all of them in the order of the file
    assert len({*map(tuple, shuffled)}) == 36
    assert shuffled == items("shuffle")


def test_the_seed_decides_the_order() -> None:
    rows = log([("u", f"i{n}", 0) for n in range(50)])
    orders = [
        in_order(rows, "timestamp", places_of(50, "shuffle", seed))["item_id"].to_list() for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
