"""The items that may be recommended: those that qualify for a filter, without those that are excluded for
single users, such as the items of their own histories.

Shapes: B users, N items that qualify, X pairs of a user and an item."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Eligible:
    """The items that may be recommended to a batch of users.

    The items that qualify are numbered in rows of their own, in the order of the catalogue.

    Attributes:
        count: N.
        items: number of each row's item in the catalogue, ascending, int64 [N]; None for the whole catalogue.
        excluded: sorted numbers user · N + row of the pairs that are excluded, int64 [X]; None if there are
            none. A user is a position in the batch.
        users: position in the batch of `excluded` of each position in this one, int64 [B]; None if they are
            equal.
    """

    count: int
    items: Tensor | None = None
    excluded: Tensor | None = None
    users: Tensor | None = None

    @staticmethod
    def of(catalogue: int, items: np.ndarray | None = None) -> Eligible:
        """Return the items that qualify.

        Args:
            catalogue: number of items of the catalogue.
            items: numbers of the items that qualify, ascending; None for all.
        """
        if items is None:
            return Eligible(catalogue)
        return Eligible(len(items), torch.as_tensor(items, dtype=torch.int64))

    def __len__(self) -> int:
        return self.count

    @property
    def restricted(self) -> bool:
        """True if some item of the catalogue may not be recommended to some user."""
        return self.items is not None or self.excluded is not None

    def to(self, device: torch.device) -> Eligible:
        """Return the same items with the tensors on a device."""
        tensors = {name: getattr(self, name) for name in ("items", "excluded", "users")}
        moved = {name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None}
        return dataclasses.replace(self, **moved)

    def without(self, users: Tensor, items: Tensor) -> Eligible:
        """Return these items without some pairs.

        Args:
            users: user of each pair, as a position in the batch, int64 [X].
            items: item of each pair, int64 [X]; pairs of an item that does not qualify have no effect.
        """
        rows = self.rows_of(items)
        pairs = torch.unique((users * self.count + rows)[rows >= 0])
        return dataclasses.replace(self, excluded=pairs, users=None)

    def select(self, users: Tensor) -> Eligible:
        """Return the items for some positions of the batch, int64 [B']."""
        if self.excluded is None:
            return self
        return dataclasses.replace(self, users=users if self.users is None else self.users[users])

    def rows_of(self, items: Tensor) -> Tensor:
        """Return the rows of items, −1 for items that do not qualify: any shape → int64 of that shape."""
        if self.items is None:
            return items
        if not self.count:
            return torch.full_like(items, -1)
        position = torch.searchsorted(self.items, items).clamp_(max=self.count - 1)
        return torch.where(self.items[position] == items, position, -1)

    def items_of(self, rows: Tensor) -> Tensor:
        """Return the items of rows, −1 for −1: any shape → int64 of that shape."""
        return rows if self.items is None else torch.where(rows < 0, -1, self.items[rows.clamp(min=0)])

    def excludes(self, users: Tensor, rows: Tensor) -> Tensor:
        """Return true where the pair of a user and a row is excluded; rows of −1 never are.

        Args:
            users: positions in the batch, int64, of a shape that broadcasts to that of `rows`.
            rows: int64, any shape.
        """
        if self.excluded is None:
            return torch.zeros_like(rows, dtype=torch.bool)
        users = users if self.users is None else self.users[users]
        return contains(self.excluded, users * self.count + rows) & (rows >= 0)

    def excluded_for(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return the excluded pairs of some users.

        Args:
            users: positions in the batch, int64 [B'].

        Returns:
            int64 [X'], position among these users; int64 [X'], row.
        """
        if self.excluded is None:
            return users[:0], users[:0]
        first = (users if self.users is None else self.users[users]) * self.count
        begin, end = (torch.searchsorted(self.excluded, bound) for bound in (first, first + self.count))
        sizes = end - begin
        owner = torch.arange(len(users), device=users.device).repeat_interleave(sizes)
        place = torch.arange(len(owner), device=users.device) + (begin - sizes.cumsum(0) + sizes)[owner]
        return owner, self.excluded[place] - first[owner]

    def counts(self, users: int) -> Tensor:
        """Return the number of items that each of so many users may get, int64 [B]."""
        if self.excluded is None:
            return torch.full((users,), self.count)
        return self.count - torch.bincount(self.excluded // self.count, minlength=users)

    def mask(self, scores: Tensor, start: int = 0) -> Tensor:
        """Set the scores of excluded pairs to −inf, in a copy if there are any.

        Args:
            scores: of all users of the batch for the rows from `start` on, float32 [B, rows].
            start: first row.
        """
        if self.excluded is None:
            return scores
        user, row = self.excluded // self.count, self.excluded % self.count - start
        inside = (row >= 0) & (row < scores.shape[1])
        masked = scores.clone()
        masked[user[inside], row[inside]] = -torch.inf
        return masked


def contains(ordered: Tensor, values: Tensor) -> Tensor:
    """Return true for each value that occurs in a sorted tensor: any shape → bool of that shape."""
    if not len(ordered):
        return torch.zeros_like(values, dtype=torch.bool)
    position = torch.searchsorted(ordered, values).clamp_(max=len(ordered) - 1)
    return ordered[position] == values
