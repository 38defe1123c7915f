"""Leave-one-out: a user's last item tests, the second-to-last validates, the rest trains (paper, section 4.1).

Leave-k-out does the same with k items at a time (k = 2: section 4.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.data.sequences import Sequences, gather
from pipelines.errors import UserError

HELD_OUT = {
    "validation": 2,
    "test": 1,
}  # split → how many times k its first target lies from the end of the sequence


@dataclass(frozen=True, eq=False)
class Split(Sequences):
    """Histories (the rows) with the k items that followed each.

    Attributes:
        users: the user of each row, int32 [B].
        following: the items to be recommended, int32 [B, k].
        warm_items: the items that somebody took in training, in order; None where nobody asks.
    """

    users: np.ndarray
    targets: np.ndarray
    warm_items: np.ndarray | None = None

    @property
    def first_target(self) -> np.ndarray:
        """The item that followed first, int32 [B]."""
        return self.targets[:, 0]

    @property
    def horizon(self) -> int:
        """k."""
        return self.targets.shape[1]

    def sample(self, n: int, seed: int) -> Split:
        """`n` rows drawn without replacement, in their old order; the split itself where it has no more than `n`."""
        if n >= len(self):
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False))
        kept = gather(self.items, self.offsets[rows], self.lengths[rows])
        return Split(kept.items, kept.offsets, self.users[rows], self.targets[rows], self.warm_items)


def training(sequences: Sequences, horizon: int = 1) -> Sequences:
    """All but each user's last 2·k items; row r is still user r.

    Raises:
        UserError: a user has no item left to train on.
    """
    return _without_last(sequences, max(HELD_OUT.values()) * horizon, horizon)


def histories(sequences: Sequences, split: str, horizon: int = 1) -> Split:
    """What comes before each user's targets, and the targets.

    Args:
        split: "validation" (targets: the k items before the last k) or "test" (targets: the last k items; the
            validation targets then are part of the history).
        ahead: k.

    Raises:
        UserError: there is no such split, or a user has fewer than 2·k + 1 items.
    """
    if split not in HELD_OUT:
        raise UserError(f"There is no split {split!r}; it can be {' or '.join(HELD_OUT)}.")
    kept = _without_last(sequences, HELD_OUT[split] * horizon, horizon)
    targets = sequences.items[(sequences.offsets[:-1] + kept.lengths)[:, None] + np.arange(horizon)]  # [B, k]
    warm_items = np.unique(training(sequences, horizon).items)
    return Split(kept.items, kept.offsets, np.arange(len(sequences), dtype=np.int32), targets, warm_items)


def _without_last(sequences: Sequences, back: int, horizon: int) -> Sequences:
    need = max(HELD_OUT.values()) * horizon + 1
    short = int(np.count_nonzero(sequences.lengths < need))
    if short:
        raise UserError(
            f"--horizon {horizon} needs {need} items of every user, and {short:,} users have fewer. "
            f"Lower it, or make the data set again with --min-count {need}."
        )
    return gather(sequences.items, sequences.offsets[:-1], sequences.lengths - back)
