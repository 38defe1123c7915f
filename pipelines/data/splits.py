"""Leave-one-out split of each user's sequence.

The last item is for testing, the second-to-last for validation, and the rest for training.
Source: paper, section 4.1. Leave-k-out holds out k items at a time (k = 2: section 4.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.data.sequences import Sequences, gather
from pipelines.errors import UserError

# Split → distance of its first target from the end of the sequence, in multiples of k.
HELD_OUT = {"validation": 2, "test": 1}


@dataclass(frozen=True, eq=False)
class Split(Sequences):
    """Histories, one a row, with the k items that follow each.

    Attributes:
        users: user of each row, int32 [B].
        targets: items that follow the history and are to be recommended, int32 [B, k].
        warm_items: sorted items that occur in the training sequences; None if they are not needed. The other
            items are cold items.
    """

    users: np.ndarray
    targets: np.ndarray
    warm_items: np.ndarray | None = None

    @property
    def first_target(self) -> np.ndarray:
        """First item that follows each history, int32 [B]."""
        return self.targets[:, 0]

    @property
    def horizon(self) -> int:
        """Number k of items that follow each history."""
        return self.targets.shape[1]

    def chunks(self) -> Iterator[Split]:
        """Yield the split as its only chunk, see `HeldOut.chunks`."""
        yield self

    def sample(self, n: int, seed: int) -> Split:
        """Return `n` rows drawn without replacement, in their original order.

        A split of at most `n` rows is returned as it is.
        """
        return self if n >= len(self) else self.rows(drawn_rows(len(self), n, seed))

    def rows(self, rows: np.ndarray) -> Split:
        """Return some rows, int64 [n]."""
        kept = gather(self.items, self.offsets[rows], self.lengths[rows])
        return Split(kept.items, kept.offsets, self.users[rows], self.targets[rows], self.warm_items)


def drawn_rows(count: int, n: int, seed: int) -> np.ndarray:
    """Draw `n` of `count` rows without replacement; int64 [n], ascending."""
    return np.sort(np.random.default_rng(seed).choice(count, n, replace=False))


def training(sequences: Sequences, horizon: int = 1, cold: float = 0.0, seed: int = 0) -> Sequences:
    """Return all but the last 2·k items of each user. Row r is still user r.

    With `cold`, the interactions of some items are left out, so that these items become cold items.

    Args:
        horizon: k.
        cold: share of the items with a training interaction whose interactions are left out.
        seed: seed of the choice of these items.

    Raises:
        UserError: a user has fewer than 2·k + 1 items.
    """
    whole = _without_last(sequences, max(HELD_OUT.values()) * horizon, horizon)
    return without_items(whole, cold_items(np.unique(whole.items), cold, seed)) if cold else whole


def cold_items(warm: np.ndarray, cold: float, seed: int) -> np.ndarray:
    """Draw the items whose interactions are left out of the training, int64 [items].

    Args:
        warm: items with a training interaction, ascending.
        cold, seed: see `training`.
    """
    count = max(1, min(round(cold * len(warm)), len(warm) - 2))  # a model compares two items at least
    return np.random.default_rng([seed, 3]).choice(warm, count, replace=False)


def without_items(sequences: Sequences, items: np.ndarray) -> Sequences:
    """Return the sequences without some items; a row may become empty."""
    is_kept = ~np.isin(sequences.items, items)  # [total]
    offsets = np.concatenate([[0], np.cumsum(is_kept)])[sequences.offsets]
    return Sequences(sequences.items[is_kept], offsets)


def histories(sequences: Sequences, split: str, horizon: int = 1, cold: float = 0.0, seed: int = 0) -> Split:
    """Return the targets of each user and the history before them.

    Args:
        split: "test" (the targets are the last k items) or "validation" (the targets are the k items before
            these). The validation targets are part of the test histories.
        horizon: k.
        cold, seed: choice of further cold items, see `training`; they stay in the histories.

    Raises:
        UserError: the split is unknown, or a user has fewer than 2·k + 1 items.
    """
    warm_items = np.unique(training(sequences, horizon, cold, seed).items)
    return held_out(sequences, split, horizon, warm_items)


def held_out(
    sequences: Sequences, split: str, horizon: int, warm_items: np.ndarray | None, first: int = 0
) -> Split:
    """Return the targets of consecutive users and the histories before them.

    Args:
        split, horizon: see `histories`.
        warm_items: see `Split`.
        first: number of the first user.

    Raises:
        UserError: see `histories`.
    """
    if split not in HELD_OUT:
        raise UserError(f"There is no split {split!r}; it can be {' or '.join(HELD_OUT)}.")
    kept = _without_last(sequences, HELD_OUT[split] * horizon, horizon)
    ends = sequences.offsets[:-1] + kept.lengths  # [B]
    targets = sequences.items[ends[:, None] + np.arange(horizon)]  # [B, k]
    users = np.arange(first, first + len(sequences), dtype=np.int32)
    return Split(kept.items, kept.offsets, users, targets, warm_items)


def _without_last(sequences: Sequences, count: int, horizon: int) -> Sequences:
    """Return each row without its last `count` items."""
    shortest = max(HELD_OUT.values()) * horizon + 1
    short = int(np.count_nonzero(sequences.lengths < shortest))
    if short:
        raise UserError(
            f"--horizon {horizon} needs {shortest} items of every user, and {short:,} users have fewer. "
            f"Lower it, or make the data set again with --min-count {shortest}."
        )
    return gather(sequences.items, sequences.offsets[:-1], sequences.lengths - count)
