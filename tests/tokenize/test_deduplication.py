"""Deduplication digits of new items against a search through all numbers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.tokenize.deduplication import digits_needed, extend, to_digits
from pipelines.tokenize.quantization import group_equal


@pytest.mark.parametrize(
    ("largest", "codebook", "count"), [(1, 4, 1), (4, 4, 1), (5, 4, 2), (16, 4, 2), (17, 4, 3)]
)
def test_as_many_digits_as_the_largest_group_needs(largest: int, codebook: int, count: int) -> None:
    assert digits_needed(largest, codebook) == count


def test_numbers_are_written_from_the_most_significant_digit() -> None:
    assert to_digits(np.array([0, 3, 4, 15]), 4, 2).tolist() == [[0, 0], [0, 3], [1, 0], [3, 3]]


def plain(sids: list[tuple[int, ...]], codes: list[tuple[int, ...]], V: int, count: int) -> list[tuple]:
    """Serve one item after another: its codes, else the next larger ones, with the lowest free number."""
    taken, result = set(sids), []
    for first in codes:
        every = [first, *product(range(V), repeat=len(first))]
        found = next(
            (*path, *digits)
            for path in every
            for digits in product(range(V), repeat=count)
            if (*path, *digits) not in taken
        )
        taken.add(found)
        result.append(found)
    return result


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(2, 3), st.integers(1, 2), st.integers(1, 2))
def test_the_lowest_free_number_or_the_next_codes_with_room(
    data: st.DataObject, V: int, m: int, count: int
) -> None:
    """Old items have any distinct semantic IDs; one extension equals two."""
    every = list(product(range(V), repeat=m + count))
    old = data.draw(st.lists(st.sampled_from(every), unique=True, min_size=1, max_size=len(every)))
    room = len(every) - len(old)
    code = st.sampled_from(list(product(range(V), repeat=m)))
    codes = data.draw(st.lists(code, max_size=min(room, 12)))

    def paths(_: int) -> list[tuple[int, ...]]:
        return list(product(range(V), repeat=m))

    def extended(sids: np.ndarray, new: list[tuple[int, ...]]) -> np.ndarray:
        return extend(sids, np.array(new, np.int64).reshape(-1, m), V, paths)

    start = np.array(old)
    found = extended(start, codes)
    assert list(map(tuple, found.tolist())) == plain(old, codes, V, count)
    half = len(codes) // 2
    first = extended(start, codes[:half])
    second = extended(np.concatenate([start, first]), codes[half:])
    np.testing.assert_array_equal(np.concatenate([first, second]), found)


def test_a_group_in_order_is_continued() -> None:
    codes = np.array([[0, 1], [2, 2], [0, 1]])
    sids = np.column_stack([codes, group_equal(codes)[1]])
    new = extend(sids, np.array([[0, 1], [1, 1], [0, 1]]), 9, lambda _: [])
    assert new.tolist() == [[0, 1, 2], [1, 1, 0], [0, 1, 3]]


def test_no_room_anywhere() -> None:
    sids = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    with pytest.raises(UserError, match="no room for new items. Run `maskgr tokenize --force`"):
        extend(sids, np.array([[0]]), 2, lambda _: [(0,), (1,)])
