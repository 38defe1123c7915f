"""Deduplication digits: the number of an item among the items with equal codes, written in base V."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np

from pipelines.errors import UserError
from pipelines.tokenize.quantization import group_equal

Codes = tuple[int, ...]


def digits_needed(largest: int, codebook: int) -> int:
    """Return the number of digits of V codes that number a group of items, at least 1.

    Args:
        largest: number of items of the largest group.
        codebook: V.
    """
    count = 1
    while codebook**count < largest:
        count += 1
    return count


def to_digits(numbers: np.ndarray, codebook: int, count: int) -> np.ndarray:
    """Write numbers in base V, the most significant digit first, int64 [N, count].

    Args:
        numbers: int64 [N], below V^count.
    """
    return numbers[:, None] // codebook ** np.arange(count - 1, -1, -1) % codebook


def extend(
    sids: np.ndarray,
    codes: np.ndarray,
    codebook: int,
    paths: Callable[[int], Iterable[Codes]],
) -> np.ndarray:
    """Return the semantic IDs of new items, int64 [new, H].

    A new item takes the lowest number that no item with its codes has. If the deduplication digits count no
    further, it takes the first codes of its paths that have room. Each item is served after those before it,
    so that one extension equals two, one after the other.

    Args:
        sids: semantic IDs of the old items, int64 [n, H].
        codes: first codes of the new items, int64 [new, m].
        codebook: V.
        paths: function from the number of a new item (0, 1, …) to the codes that it may take instead, best
            first.

    Raises:
        UserError: no codes have room for an item.
    """
    m = codes.shape[1]
    count = sids.shape[1] - m
    numbers = sids[:, m:] @ codebook ** np.arange(count - 1, -1, -1)  # [n], of the old items
    group, rank = group_equal(np.concatenate([sids[:, :m], codes]))
    grown = np.isin(group[: len(sids)], group[len(sids) :])  # [n]
    dense = (numbers == rank[: len(sids)])[grown].all()
    if dense and rank[len(sids) :].max(initial=0) < codebook**count:
        new = rank[len(sids) :]
    else:
        codes, new = _in_turn(sids[:, :m], numbers, codes, codebook**count, paths)
    return np.column_stack([codes, to_digits(new, codebook, count)])


def _in_turn(
    old: np.ndarray,
    numbers: np.ndarray,
    codes: np.ndarray,
    room: int,
    paths: Callable[[int], Iterable[Codes]],
) -> tuple[np.ndarray, np.ndarray]:
    """Serve one new item after another, see `extend`.

    Args:
        old: first codes of the old items, int64 [n, m].
        numbers: numbers of the old items in their groups, int64 [n].
        room: numbers of a group.

    Returns:
        codes of the new items, int64 [new, m]; their numbers, int64 [new].
    """
    taken: dict[Codes, set[int]] = {}
    for path, number in zip(map(tuple, old.tolist()), numbers.tolist(), strict=True):
        taken.setdefault(path, set()).add(number)
    free: dict[Codes, Iterator[int]] = {}  # numbers that nobody has, from the lowest
    chosen, result = [], []
    for item, first in enumerate(map(tuple, codes.tolist())):
        for path in chain([first], paths(item)):
            used = taken.get(path, set())
            if path not in free:
                free[path] = (number for number in range(room) if number not in used)
            number = next(free[path], None)
            if number is not None:
                break
        else:
            raise UserError(
                "All semantic IDs of these codebooks are taken: there is no room for new items. Run "
                "`maskgr tokenize --force` with a larger --codebook or --sids."
            )
        chosen.append(path)
        result.append(number)
    return np.array(chosen, np.int64).reshape(codes.shape), np.array(result, np.int64)
