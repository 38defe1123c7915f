"""Words that tell what codes mean: those that are typical of the titles of the items with a code.

Shapes: N items, H digits."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from pipelines import artifacts

WORDS = 3  # words of a code
WORD = r"[\p{L}\p{N}]{2,}"
LIFT = 2.0  # a word is typical of a code whose items have it so many times as often as all items
MOST = 4096  # items of a code whose words are counted


def content_digits(path: Path | None, digits: int) -> int:
    """Return the number of digits that tell something of an item; the others only tell equal items apart.

    Args:
        path: file of the semantic IDs; None if it is unknown.
        digits: H.
    """
    provenance = artifacts.provenance(path) if path else None
    levels = provenance["config"].get("num_levels") if provenance else None
    return min(levels, digits) if type(levels) is int else digits


class CodeWords:
    """Typical words of the codes of a catalogue."""

    def __init__(self, titles: pl.Series, sids: np.ndarray, digits: int) -> None:
        """
        Args:
            titles: titles of all items, text [N].
            sids: semantic IDs, int64 [N, H].
            digits: number of content digits, see `content_digits`.
        """
        self._titles, self._sids, self._digits = titles, sids, digits

    def of_code(self, digit: int, code: int) -> list[str]:
        """Return the words that are most typical of the items with a code. Empty for a digit that tells equal
        items apart.

        Args:
            digit: number of the digit, from 0.
        """
        if digit >= self._digits:
            return []
        items = np.flatnonzero(self._sids[:, digit] == code)
        return self.of_groups(items, np.full(len(items), code)).get(code, [])

    def of_groups(self, items: np.ndarray, groups: np.ndarray) -> dict[int, list[str]]:
        """Return the words that are most typical of each group of items: frequent among them, and more
        frequent than in the whole catalogue.

        Args:
            items: item numbers, int64 [n].
            groups: number of the group of each of these items, int64 [n].

        Returns:
            Words of each group, most typical first; groups without typical words are left out.
        """
        grouped = pl.DataFrame({"item": items, "group": groups}).filter(
            pl.int_range(pl.len()).over("group") < MOST
        )
        grouped = grouped.with_columns(size=pl.len().over("group"))
        words = (
            self._words.join(grouped, on="item")
            .group_by("group", "word")
            .agg(pl.len().alias("here"), pl.col("everywhere", "size").first())
            .with_columns(share=pl.col("here") / pl.col("size"))
            .with_columns(lift=pl.col("share") * len(self._sids) / pl.col("everywhere"))
            .filter(pl.col("lift") > LIFT)
            .with_columns(gain=pl.col("share") * pl.col("lift").log())
            .sort(["group", "gain", "word"], descending=[False, True, False])
            .group_by("group", maintain_order=True)
            .agg(pl.col("word").head(WORDS))
        )
        return dict(zip(words["group"].to_list(), words["word"].to_list(), strict=True))

    @cached_property
    def _words(self) -> pl.DataFrame:
        """Words of each item's title: columns item and word, each word once per item; and everywhere, the
        number of items with the word.
        """
        words = self._titles.str.to_lowercase().str.extract_all(WORD).list.unique()
        table = pl.DataFrame({"item": np.arange(len(words)), "word": words}).explode("word").drop_nulls()
        return table.with_columns(everywhere=pl.len().over("word"))
