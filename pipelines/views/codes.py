"""What the codes of semantic IDs mean: their items, their words, and how evenly they are used.

Shapes: N items, H digits, m content digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from pipelines.data.catalogue import load_sids
from pipelines.errors import UserError
from pipelines.recommend.items import ItemTable
from pipelines.recommend.words import CodeWords, content_digits
from pipelines.workspace import Dataset

EXAMPLES = 3  # titles of a code
DESCRIBED = 2  # digits of a tree whose codes have words and titles


@dataclass(frozen=True)
class Digit:
    """Use of the codes of a digit.

    Attributes:
        digit: number of the digit, from 1.
        codes_used: number of codes that occur.
        entropy: entropy of the frequencies of the codes, in bits.
        entropy_share: entropy as a share of log2 V.
    """

    digit: int
    codes_used: int
    entropy: float
    entropy_share: float


@dataclass(frozen=True)
class Code:
    """A code, or a sequence of codes of the first digits.

    Attributes:
        digit: number of the (last) digit, from 1.
        code: the (last) code.
        items: number of items that have it.
        words: words that are typical of their titles, most typical first.
        examples: titles of some of them.
        parts: the codes of the next digit among these items, those with most items first.
    """

    digit: int
    code: int
    items: int
    words: list[str]
    examples: list[str] = field(default_factory=list)
    parts: list[Code] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Groups of all items.

    Attributes:
        numbers: number of each item's group, int64 [N].
        words: words of each group.
    """

    numbers: np.ndarray
    words: dict[int, list[str]]


class Meaning:
    """What the semantic IDs of a data set mean.

    Attributes:
        name: name of the semantic IDs.
        dataset: name of the data set.
        digits: m, the number of digits that tell something of an item.
        codes: V.
    """

    def __init__(self, dataset: Dataset, name: str | None = None) -> None:
        """
        Args:
            name: name of the semantic IDs; None for the newest ones.

        Raises:
            UserError: there are none of that name, or a file is damaged.
        """
        self.name, self.dataset = name or newest_sids(dataset), dataset.name
        catalogue = load_sids(dataset, self.name)
        self._sids, self.codes = catalogue.require_sids(), catalogue.codes
        self._titles = ItemTable(dataset).names["title"]
        self.digits = content_digits(dataset.sids(self.name), self._sids.shape[1])
        self._words = CodeWords(self._titles, self._sids, self.digits)

    @property
    def items(self) -> int:
        """N."""
        return len(self._sids)

    def use(self) -> list[Digit]:
        """Return the use of the codes of each content digit."""
        result = []
        for number, column in enumerate(self._sids.T[: self.digits], start=1):
            counts = np.unique(column, return_counts=True)[1]
            shares = counts / counts.sum()
            entropy = abs(float(shares @ np.log2(shares)))
            result.append(Digit(number, len(counts), entropy, entropy / np.log2(max(self.codes, 2))))
        return result

    @cached_property
    def group_sizes(self) -> np.ndarray:
        """Numbers of items with equal content digits, int64 [groups]."""
        return np.unique(self._sids[:, : self.digits], axis=0, return_counts=True)[1]

    @property
    def collisions(self) -> int:
        """Number of items that share all content digits with another item."""
        return int(self.group_sizes[self.group_sizes > 1].sum())

    def of_digit(self, digit: int) -> list[Code]:
        """Return the codes of a digit, those with most items first.

        Args:
            digit: number of the digit, from 1.
        """
        column = self._sids[:, digit - 1]
        return [*self._codes(digit, np.arange(self.items), self._grouped(column))]

    def of_item(self, item: int) -> list[Code]:
        """Return the codes of an item; deduplication digits have no words.

        Args:
            item: number of the item.
        """
        counts = (self._sids == self._sids[item]).sum(0)  # [H]
        return [
            Code(digit + 1, int(code), int(counts[digit]), self._words.of_code(digit, int(code)))
            for digit, code in enumerate(self._sids[item])
        ]

    def tree(self, depth: int) -> list[Code]:
        """Return the codes of the first digit with their parts, the codes of the second digit, and so on.

        Args:
            depth: number of digits, at most m, and at most one more than `DESCRIBED`. Codes of the digit
                after these have neither words nor examples, since there may be as many of them as items.
        """
        prefixes = [
            self._grouped(np.unique(self._sids[:, :count], axis=0, return_inverse=True)[1].ravel())
            for count in range(1, min(depth, self.digits, DESCRIBED) + 1)
        ]
        return self._below(np.arange(self.items), 1, min(depth, self.digits), prefixes)

    def _below(self, items: np.ndarray, digit: int, last: int, prefixes: list[_Groups]) -> list[Code]:
        """Return the tree of some items from a digit to the last one.

        Args:
            items: item numbers, int64 [n].
            digit, last: numbers of the digits, from 1.
            prefixes: groups of items with equal codes up to each described digit.
        """
        if digit > DESCRIBED:  # the last ones
            values, counts = np.unique(self._sids[items, digit - 1], return_counts=True)
            order = np.argsort(-counts, kind="stable")
            return [Code(digit, int(values[n]), int(counts[n]), []) for n in order]
        codes = [*self._codes(digit, items, prefixes[digit - 1])]
        if digit < last:
            column = self._sids[items, digit - 1]
            for code in codes:
                code.parts.extend(self._below(items[column == code.code], digit + 1, last, prefixes))
        return codes

    def _grouped(self, numbers: np.ndarray) -> _Groups:
        """Return groups of all items with their words, by the number of each item's group, int64 [N]."""
        return _Groups(numbers, self._words.of_groups(np.arange(self.items), numbers))

    def _codes(self, digit: int, items: np.ndarray, groups: _Groups) -> Iterator[Code]:
        """Yield the codes of a digit of some items, those with most items first, of equal ones the lower
        codes.

        Args:
            items: item numbers, int64 [n].
            groups: groups whose words are those of the codes.
        """
        column = self._sids[items, digit - 1]
        values, counts = np.unique(column, return_counts=True)
        order = np.argsort(column, kind="stable")
        starts = np.cumsum([0, *counts])
        for place in np.argsort(-counts, kind="stable").tolist():
            some = items[order[starts[place] : starts[place + 1]][:EXAMPLES]]
            examples = self._titles.gather(pl.Series(some)).to_list()
            typical = groups.words.get(int(groups.numbers[some[0]]), [])
            yield Code(digit, int(values[place]), int(counts[place]), typical, examples)


def newest_sids(dataset: Dataset) -> str:
    """Return the name of the newest semantic IDs of a data set.

    Raises:
        UserError: there are none.
    """
    if not dataset.all_sids:
        raise UserError(
            f"{dataset.name} has no semantic IDs. Make some with: maskgr tokenize --dataset {dataset.name}"
        )
    return max(dataset.all_sids, key=lambda path: path.stat().st_mtime_ns).stem
