"""Split of users' sequences into training, validation and test.

Leave-one-out: the last item is for testing, the second-to-last for validation, and the rest for training.
Source: paper, section 4.1. Leave-k-out holds out k items at a time (k = 2: section 4.4). Temporal: two times
cut the log; `Sequences.bounds` says where in each sequence, and who has a target (`pipelines.temporal`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.data.sequences import Sequences, gather
from pipelines.errors import UserError
from pipelines.temporal import PERIODS


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
    """Return the training items of each user: all but the last 2·k, or those before the validation of a
    temporal split. Row r is still user r.

    With `cold`, the interactions of some items are left out, so that these items become cold items.

    Args:
        horizon: k.
        cold: share of the items with a training interaction whose interactions are left out.
        seed: seed of the choice of these items.

    Raises:
        UserError: see `bounds_of`.
    """
    whole = gather(sequences.items, sequences.offsets[:-1], bounds_of(sequences, horizon)[:, 0])
    return without_items(whole, cold_items(np.unique(whole.items), cold, seed)) if cold else whole


def bounds_of(sequences: Sequences, horizon: int = 1) -> np.ndarray:
    """Return for each user the number of training items, the place of the first target of the validation and
    that of the test, −1 for none; int64 [rows, 3].

    Args:
        horizon: k, number of targets.

    Raises:
        UserError: a user has fewer than 2·k + 1 items, or the split is temporal and k above 1.
    """
    if sequences.bounds is not None:
        if horizon > 1:
            raise UserError(
                f"--horizon {horizon} needs a leave-one-out split; with a temporal one each user has one "
                "target. Leave it out."
            )
        return sequences.bounds
    shortest = 2 * horizon + 1
    short = int(np.count_nonzero(sequences.lengths < shortest))
    if short:
        raise UserError(
            f"--horizon {horizon} needs {shortest} items of every user, and {short:,} users have fewer. "
            f"Lower it, or make the data set again with --min-count {shortest}."
        )
    return sequences.lengths[:, None] - horizon * np.array([2, 2, 1])


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
        split: "test" or "validation". The validation targets are part of the test histories. Users without a
            target, which a temporal split may have, are left out.
        horizon: k.
        cold, seed: choice of further cold items, see `training`; they stay in the histories.

    Raises:
        UserError: the split is unknown; see `bounds_of`.
    """
    warm_items = np.unique(training(sequences, horizon, cold, seed).items)
    return held_out(sequences, split, horizon, warm_items)


def held_out(
    sequences: Sequences, split: str, horizon: int, warm_items: np.ndarray | None, first: int = 0
) -> Split:
    """Return the targets of consecutive users and the histories before them; users without a target are left
    out.

    Args:
        split, horizon: see `histories`.
        warm_items: see `Split`.
        first: number of the first user.

    Raises:
        UserError: see `histories`.
    """
    if split not in PERIODS:
        raise UserError(f"There is no split {split!r}; it can be {' or '.join(PERIODS)}.")
    ends = bounds_of(sequences, horizon)[:, 1 + PERIODS.index(split)]  # [rows]
    rows = np.flatnonzero(ends >= 0)  # [B]
    starts, lengths = sequences.offsets[rows], ends[rows]
    kept = gather(sequences.items, starts, lengths)
    targets = sequences.items[(starts + lengths)[:, None] + np.arange(horizon)]  # [B, k]
    return Split(kept.items, kept.offsets, (first + rows).astype(np.int32), targets, warm_items)
