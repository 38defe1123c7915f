"""Soft targets: the item probabilities of teachers in the losses of a student (Hinton et al. 2015, arXiv
1503.02531).

The target of a masked item is `share` × the teachers' probabilities, restricted to the items that agree with
its visible digits and divided by their sum, plus (1 − `share`) × the true item. Where none of the teachers'
items agrees, it is the true item alone. A digit apart has the sum over these items by its code.

Shapes: P places of training sequences, K items of a place, B sequences, n items of each, R masked items, J =
K + 1 items of a target, H digits per item, V codes per digit, N items."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipelines.models.nn.packing import to_device


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """Soft targets of the items of a batch, on the host.

    Attributes:
        items: the teachers' best items at each place, int32 [P, K].
        probabilities: their probabilities, floating point [P, K]; of a row, only the ratios count. A row of
            zeros has no teacher.
        places: place of each item of the batch, int64 [B, n], −1 for an item without one.
        share: share of the teachers in a target.
    """

    items: np.ndarray
    probabilities: np.ndarray
    places: np.ndarray
    share: float

    def at(self, places: np.ndarray) -> SoftTargets:
        """Return the soft targets of other items, by their places [B, n]."""
        return dataclasses.replace(self, places=places)

    def rows(self, places: np.ndarray) -> SoftTargets:
        """Return a copy that holds some places alone, int64 [P'], in this order."""
        return SoftTargets(self.items[places], self.probabilities[places], np.arange(len(places)), self.share)

    @staticmethod
    def joined(parts: Sequence[SoftTargets]) -> SoftTargets | None:
        """Return the places of some parts one after another; None for no part."""
        if len(parts) < 2:
            return parts[0] if parts else None
        items, probabilities = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("items", "probabilities")
        )
        return SoftTargets(items, probabilities, np.arange(len(items)), parts[0].share)

    def of(self, chosen: Tensor, device: torch.device) -> TeacherItems:
        """Return the teachers' items at some items of the batch, on a device.

        Args:
            chosen: flat indices into B·n, int64 [R], on the host.
        """
        places = self.places.ravel()[chosen.numpy()]
        rows = np.maximum(places, 0)
        probabilities = self.probabilities[rows].astype(np.float32)
        probabilities[places < 0] = 0.0
        items, shares = (torch.as_tensor(array) for array in (self.items[rows], probabilities))
        return TeacherItems(to_device(items, device).long(), to_device(shares, device), self.share)


@dataclass(frozen=True, eq=False)
class TeacherItems:
    """The teachers' items of R masked items.

    Attributes:
        items: int64 [R, K].
        probabilities: float32 [R, K]; of a row, only the ratios count.
        share: share of the teachers in a target.
    """

    items: Tensor
    probabilities: Tensor
    share: float

    def select(self, rows: Tensor) -> TeacherItems:
        """Return some rows, int64 [R']."""
        return TeacherItems(self.items[rows], self.probabilities[rows], self.share)

    def agreeing(self, sids: Tensor, truth: Tensor, masked: Tensor) -> TeacherItems:
        """Restrict the probabilities to the items that agree with the visible digits.

        Args:
            sids: semantic IDs of the catalogue, integers [N, H].
            truth: true items, int64 [R].
            masked: masked digits of the items, bool [R, H].
        """
        same = sids[self.items] == sids[truth][:, None]  # [R, K, H]
        agree = (same | masked[:, None]).all(2)
        return dataclasses.replace(self, probabilities=self.probabilities * agree)

    def drawn(self, count: int) -> TeacherItems:
        """Draw items in proportion to their probabilities, where there are more than so many.

        The draws are systematic: an item with a share q of the probabilities has ⌊count · q⌋ or ⌈count · q⌉
        draws, in neighboring columns, and its expected share of the result is q.

        Args:
            count: number of draws.
        """
        if self.items.shape[1] <= count:
            return self
        ends = self.probabilities.cumsum(1)  # [R, K]
        start = torch.rand(len(ends), 1, device=ends.device)
        places = (torch.arange(count, device=ends.device) + start) * (ends[:, -1:] / count)  # [R, count]
        column = torch.searchsorted(ends, places, right=True).clamp_(max=ends.shape[1] - 1)
        items = self.items.gather(1, column)
        return dataclasses.replace(self, items=items, probabilities=(ends[:, -1:] / count).expand_as(places))

    def others(self, truth: Tensor, history: Tensor | None = None) -> Tensor:
        """Return the items without the true ones, int64 [R, K], −1 for those, where there is none, and where
        an item is that of the column before.

        Args:
            truth: true items, int64 [R].
            history: further items to leave out, int64 [R, n], −1 for none.
        """
        left_out = (self.probabilities <= 0) | (self.items == truth[:, None])
        left_out[:, 1:] |= self.items[:, 1:] == self.items[:, :-1]
        if history is not None:
            left_out |= (self.items[:, :, None] == history[:, None]).any(2)
        return self.items.masked_fill(left_out, -1)

    def mean_logits(self, truth: Tensor, true: Tensor, taught: Tensor) -> Tensor:
        """Return the mean logits of the targets, float32 [R].

        Args:
            truth: true items, int64 [R].
            true: their logits, float32 [R].
            taught: logits of the teachers' items, float32 [R, K].
        """
        shares = self.mixed(truth).shares
        return shares[:, 0] * true + (shares[:, 1:] * taught).sum(1)

    def mixed(self, truth: Tensor, kept: float = 0.0) -> Mixture:
        """Mix the probabilities with the true items.

        Args:
            truth: true items, int64 [R].
            kept: share of the whole target that stays the true item's; see `softmax_loss`, which replaces it.
        """
        total = self.probabilities.sum(1, keepdim=True)  # [R, 1]
        share = torch.where(total > 0, self.share, 0.0)  # [R, 1]
        soft = self.probabilities * (share / total.clamp(min=torch.finfo(total.dtype).tiny))  # [R, K]
        shares = (1 - kept) * torch.cat((1 - share, soft), dim=1)
        shares[:, 0] += kept
        items = torch.where(soft > 0, self.items, truth[:, None])  # of an item with share 0, any that agrees
        return Mixture(torch.cat((truth[:, None], items), dim=1), shares)


class Mixture(NamedTuple):
    """Targets of R masked items: J items with their shares, the true item first.

    Attributes:
        items: int64 [R, J].
        shares: float32 [R, J]; a row sums to 1.
    """

    items: Tensor
    shares: Tensor

    def codes(self, sids: Tensor) -> Tensor:
        """Return the codes of the items, int64 [R, J, H], from semantic IDs [N, H]."""
        return sids[self.items].long()


def soft_cross_entropy(logits: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
    """Compute cross-entropies with several targets for each row.

    Args:
        logits: float32 [R, C].
        targets: columns, int64 [R, J].
        shares: share of each, float32 [R, J].

    Returns:
        float32 [R].
    """
    return -(logits.log_softmax(1).gather(1, targets) * shares).sum(1)
