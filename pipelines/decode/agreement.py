"""Index of semantic IDs of any length: the items that agree with a partial semantic ID are looked for.

Shapes: B users, K beams, H digits per item, V codes per digit, N items, Q partial semantic IDs, U distinct
ones, D digits of a partial semantic ID whose codes are asked for."""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipelines.data.candidates import fits_a_number, group_starts, place_values
from pipelines.data.windows import PAIRS, WindowIndex
from pipelines.decode.sid_index import Groups, SidIndex, Valid
from pipelines.decode.state import CELLS


class AgreementIndex(SidIndex):
    """The items of a catalogue by their partial SIDs, where these are too many to count.

    The key of a partial SID is the partial SID itself. A code leads to a partial SID that some item agrees
    with if an item that agrees with the beam has it; the beams of a batch are compared with the catalogue
    once for each distinct beam. All comparisons are of digits, so that no result depends on chance.

    See `SidIndex` for the attributes.
    """

    branches = False
    tensors = (*SidIndex.tensors, "_code_counts")

    def __init__(self, sids: np.ndarray, codes: int, items: np.ndarray | None = None) -> None:
        """
        Args:
            sids: distinct semantic IDs of the whole catalogue, [items, H], codes from 0 to V − 1.
            codes: V.
            items: numbers of the items that the index holds, ascending; None for all.
        """
        started = time.monotonic()
        super().__init__(sids, codes, items)
        self._code_counts = torch.stack(
            [torch.bincount(column, minlength=codes) for column in self.sids.T]
        ).int()  # [H, V]
        self.seconds = time.monotonic() - started

    @cached_property
    def candidates(self) -> WindowIndex:
        return WindowIndex(self.sids, self.codes)

    @property
    def bytes(self) -> int:
        return self.sids.nbytes + WindowIndex.complete_bytes(*self.sids.shape)

    @property
    def content(self) -> str:
        return f"{len(self.sids):,} semantic IDs of {self.digits} digits"

    def keys(self, codes: Tensor) -> Tensor:
        return codes

    def codes_of(self, keys: Tensor) -> Tensor:
        return keys

    def unmask(self, keys: Tensor, digit: Tensor, code: Tensor) -> Tensor:
        return keys.scatter(-1, digit[..., None], code[..., None])

    def numbers(self, keys: Tensor) -> Tensor:
        return ranks(keys.reshape(-1, self.digits), self.codes + 1).view(keys.shape[:-1])

    def lookup(self, keys: Tensor) -> Tensor:
        codes = keys.reshape(-1, self.digits)
        whole = (codes < self.codes).all(1).nonzero().squeeze(1)
        rows = codes.new_full((len(codes),), -1)
        for part in self.candidates.ranges(codes[whole]):
            found, items = part.pairs()
            rows[whole[found]] = items
        return rows.view(keys.shape[:-1])

    def valid(self, keys: Tensor, users: Tensor | None = None) -> Tensor:
        codes = keys.reshape(-1, self.digits)
        owners = None if users is None else users.expand(keys.shape[:-1]).flatten()
        valid = torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
        for part in self.candidates.ranges(codes):
            if owners is None or self.eligible.excluded is None:
                valid[part.rows] = part.sizes > 0
                continue
            for some in part.split(PAIRS):
                row, item = some.pairs()
                valid[row[~self.eligible.excludes(owners[row], item)]] = True
        return valid.view(keys.shape[:-1])

    def constrain(
        self, scores: Tensor, codes: Tensor, digit: Tensor | None = None
    ) -> tuple[Tensor, Valid | None]:
        (B, K, H), V = codes.shape, self.codes
        every = torch.arange(H, device=codes.device).expand(B, K, H)
        digits = every if digit is None else digit[..., None]  # [B, K, D]
        parts = torch.arange(B, device=codes.device).split(max(1, CELLS // (digits[0].numel() * V)))
        allowed = [self._counts_of_users(codes[part], digits[part], part) > 0 for part in parts]
        return scores.masked_fill(~torch.cat(allowed).view(scores.shape), -torch.inf), None

    def _counts_of_users(self, codes: Tensor, digits: Tensor, users: Tensor) -> Tensor:
        """Return the number of items that agree with partial SIDs and have each code, of those that the user
        may get.

        Args:
            codes: partial SIDs, int64 [B, K, H].
            digits: int64 [B, K, D].
            users: positions in the batch, int64 [B].

        Returns:
            int32 [B, K, D, V].
        """
        (B, K, H), D, V = codes.shape, digits.shape[2], self.codes
        flat = torch.cat((codes, digits[..., :1]), dim=2).view(B * K, H + 1)  # the first of H digits is 0
        distinct, place = ranks(flat, max(V, H) + 1).unique(return_inverse=True)
        one = place.new_empty(len(distinct)).scatter_(0, place, torch.arange(B * K, device=place.device))
        counts = self._counts(flat[one, :H], digits.view(B * K, D)[one])[place].view(B, K, D, V)
        if self.eligible.excluded is None:
            return counts
        owners, items = self.eligible.excluded_for(users)  # [X]
        for owner, item in zip(
            owners.split(CELLS // (K * H) + 1), items.split(CELLS // (K * H) + 1), strict=True
        ):
            sids = self.sids[item].long()  # [X, H]
            agrees = ((codes[owner] == sids[:, None]) | (codes[owner] == V)).all(2)  # [X, K]
            pair, beam = agrees.nonzero(as_tuple=True)
            user, column = owner[pair], digits[owner[pair], beam]  # [x], [x, D]
            cells = ((user * K + beam)[:, None] * D + torch.arange(D, device=user.device)) * V
            cells = (cells + sids[pair[:, None], column]).flatten()
            counts.view(-1).index_add_(0, cells, torch.full_like(cells, -1, dtype=counts.dtype))
        return counts

    def _counts(self, codes: Tensor, digits: Tensor) -> Tensor:
        """Return the number of items that agree with partial SIDs [U, H] and have each code of digits [U, D]:
        int32 [U, D, V].
        """
        D, V = digits.shape[1], self.codes
        counts = self._code_counts[digits]  # [U, D, V], where all digits are masked
        partly = (codes < V).any(1).nonzero().squeeze(1)
        counts[partly] = 0
        columns = torch.arange(D, device=codes.device)
        for part in self.candidates.ranges(codes[partly]) if len(partly) else ():
            for some in part.split(max(1, PAIRS // D)):
                row, item = some.pairs()
                row = partly[row]
                cells = (row[:, None] * D + columns) * V + self.sids[item[:, None], digits[row]]
                counts.view(-1).index_add_(0, cells.flatten(), counts.new_ones(()).expand(cells.numel()))
        return counts

    def group(self, chosen: Tensor, rows: Tensor, items: Tensor) -> Groups:
        most = int(chosen.sum(1).max())
        first = chosen.byte().argsort(dim=1, descending=True, stable=True)[
            :, :most
        ]  # [R, most], chosen digits
        codes = self.catalogue_sids[items[:, None], first[rows]].long() * chosen.gather(1, first)[rows]
        numbers = ranks(torch.cat((rows[:, None], codes), 1), max(len(chosen), self.codes))
        distinct, place = numbers.unique(return_inverse=True)  # those of the first row first
        one = items.new_empty(len(distinct)).scatter_(0, place, torch.arange(len(items), device=items.device))
        sizes = torch.bincount(rows[one], minlength=len(chosen))  # groups of each row
        starts, item = group_starts(sizes), items[one]

        def change(row: Tensor, group: Tensor) -> Tensor:
            sids = self.catalogue_sids[item[(starts[row] + group).clamp(max=len(item) - 1)]]
            return (sids - self.codes) * chosen[row]

        return Groups(place - starts[rows], int(sizes.max()), change)


def ranks(rows: Tensor, radix: int) -> Tensor:
    """Return numbers that order rows of values like words in a dictionary, equal for equal rows: int64 [M].

    Args:
        rows: values from 0 to radix − 1, int64 [M, columns].
        radix: number of values.
    """
    width = rows.shape[1]
    while width > 1 and not fits_a_number(width, radix - 1):
        width -= 1
    words = [
        (part * place_values(part.shape[1], radix - 1).to(rows.device)).sum(1)
        for part in rows.split(width, 1)
    ]
    numbers = words[0]
    for word in words[1:]:
        first, second = (values.unique(return_inverse=True)[1] for values in (numbers, word))
        numbers = first * len(rows) + second
    return numbers
