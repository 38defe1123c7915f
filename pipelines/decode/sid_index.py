"""The catalogue as a beam search sees it: which partial semantic IDs some item agrees with.

Two implementations share this interface. `PartialIndex` counts all partial SIDs of short semantic IDs, and
`AgreementIndex` finds the items that agree with those of any length. `build_index` chooses."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipelines.data.candidates import CandidateIndex
from pipelines.data.eligible import Eligible
from pipelines.data.windows import candidate_index

if TYPE_CHECKING:
    from typing_extensions import Self

Valid = Callable[[Tensor, Tensor], Tensor]  # keys and users → bool


class Groups(NamedTuple):
    """Pairs of a row and an item, grouped by the codes that the items have at the row's chosen digits.

    Attributes:
        of_pairs: group of each pair, int64 [Q]; pairs of a row in the same group have the same codes.
        size: G; groups are 0 to G − 1.
        change: function from rows and groups, int64 of one shape, to what the codes add to the key of a
            partial SID in which the digits are masked.
    """

    of_pairs: Tensor
    size: int
    change: Callable[[Tensor, Tensor], Tensor]


class SidIndex(ABC):
    """Items that may be recommended, by their partial semantic IDs.

    An index names partial SIDs by keys of its own form: int64, of the shape of the partial SIDs, with or
    without a last dimension. Keys of the same shape can be gathered, and added to by `change`.

    An index may hold a part of the catalogue, the items that qualify for a filter, in rows of their own. For
    a batch of users it may also leave out items of single users (`excluding`).

    Attributes:
        codes: V.
        digits: H.
        sids: semantic IDs, int32 [N, H].
        catalogue_sids: semantic IDs of the whole catalogue, int32 [items, H].
        eligible: items of the rows, and the pairs of a user and an item that are left out.
        used_codes: codes that some item has at each digit, bool [H, V].
        branches: true if partial SIDs are tested so fast that branch and bound may pay.
        seconds: time that building the index took.
    """

    branches: bool
    seconds: float
    tensors: tuple[str, ...] = ("sids", "catalogue_sids", "used_codes")  # that `to` moves

    def __init__(self, sids: np.ndarray, codes: int, items: np.ndarray | None = None) -> None:
        """
        Args:
            sids: distinct semantic IDs of the whole catalogue, [items, H], codes from 0 to V − 1.
            codes: V.
            items: numbers of the items that the index holds, ascending; None for all.
        """
        self.codes = codes
        self.digits = sids.shape[1]
        self.catalogue_sids = torch.as_tensor(sids, dtype=torch.int32)  # [items, H]
        self.sids = self.catalogue_sids if items is None else self.catalogue_sids[items]  # [N, H]
        self.eligible = Eligible.of(len(sids), items)
        self.used_codes = torch.zeros((self.digits, codes), dtype=torch.bool)  # [H, V]
        for used, column in zip(self.used_codes, self.sids.T, strict=True):
            used[column] = True

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size of the tensors in bytes, semantic IDs included."""

    @property
    @abstractmethod
    def content(self) -> str:
        """The content in a few words, for the user."""

    @abstractmethod
    def keys(self, codes: Tensor) -> Tensor:
        """Return the keys of partial SIDs: [..., H] codes, V where masked → int64 [...] or [..., H]."""

    @abstractmethod
    def codes_of(self, keys: Tensor) -> Tensor:
        """Return the partial SIDs of keys, int64 [..., H]."""

    @abstractmethod
    def unmask(self, keys: Tensor, digit: Tensor, code: Tensor) -> Tensor:
        """Return the keys of partial SIDs with one more digit unmasked.

        Args:
            keys: of [...] partial SIDs.
            digit: a masked digit of each, int64 [...].
            code: its code, int64 [...].
        """

    @abstractmethod
    def numbers(self, keys: Tensor) -> Tensor:
        """Return numbers that order partial SIDs by their digits, int64 [...]; equal for equal partial SIDs.
        They may have no meaning beside the keys of another call.
        """

    @abstractmethod
    def lookup(self, keys: Tensor) -> Tensor:
        """Return the rows of the items that keys [...] name, −1 where there is none: int64 [...]."""

    @abstractmethod
    def valid(self, keys: Tensor, users: Tensor | None = None) -> Tensor:
        """Return true for each partial SID that some item agrees with that the user may get, bool [...].

        Args:
            keys: of [...] partial SIDs.
            users: positions in the batch, int64, of a shape that broadcasts to [...]; None where no item is
                left out for single users.
        """

    @abstractmethod
    def constrain(
        self, scores: Tensor, codes: Tensor, digit: Tensor | None = None
    ) -> tuple[Tensor, Valid | None]:
        """Leave out the codes that lead to a partial SID that no item agrees with which the user may get.

        Args:
            scores: of the codes of a digit, float32 [B, K, V], or of all digits, [B, K, H, V].
            codes: partial SIDs, int64 [B, K, H]; V where masked.
            digit: a masked digit of each, int64 [B, K]; None for all digits.

        Returns:
            The scores, −inf for codes that are left out already; and the test of the others, None if all
            codes were tested.
        """

    @abstractmethod
    def group(self, chosen: Tensor, rows: Tensor, items: Tensor) -> Groups:
        """Group pairs of a row and an item by the item's codes at the row's digits.

        Args:
            chosen: digits of each row, bool [R, H].
            rows: int64 [Q].
            items: numbers in the catalogue, int64 [Q].
        """

    def to(self, device: torch.device) -> SidIndex:
        """Move the tensors to a device, and return this index."""
        if device != self.sids.device:
            self.__dict__.pop("candidates", None)
        for name in self.tensors:
            setattr(self, name, getattr(self, name).to(device))
        self.eligible = self.eligible.to(device)
        return self

    def excluding(self, users: Tensor, items: Tensor) -> Self:
        """Return the index for a batch of users of whom some must not get certain items.

        Args:
            users: user of each pair, as a position in the batch, int64 [X].
            items: item of each pair, a number in the catalogue, int64 [X].
        """
        _ = self.candidates  # shared by the copies for all batches
        result = copy.copy(self)
        result.eligible = self.eligible.without(users, items)
        return result

    def select(self, users: Tensor) -> Self:
        """Return the index for some users of the batch that `excluding` was called with, int64 [B']."""
        result = copy.copy(self)
        result.eligible = self.eligible.select(users)
        return result

    @cached_property
    def candidates(self) -> CandidateIndex:
        """Candidate index of the rows."""
        return candidate_index(self.sids, self.codes)

    def tie_break(self, keys: Tensor) -> Tensor:
        """Return numbers that order partial SIDs with equal scores, the lower first: by the row of the item,
        then those that are no item by their digits. Keys [...] → int64 [...].
        """
        rows = self.lookup(keys)
        return torch.where(rows < 0, self.numbers(keys), rows - len(self.sids))
