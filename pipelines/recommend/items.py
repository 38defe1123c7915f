"""The items of a data set as a table: identifiers, titles, and the items that qualify for a filter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from pipelines.errors import UserError, reading
from pipelines.where.condition import condition
from pipelines.workspace import Dataset

# Names of columns that hold titles, best first; they are compared in lower case.
TITLES = ("title", "name", "product_name", "item_name", "product_title", "movie_title", "headline")
FIXED = ("item", "item_id", "text")  # columns of every items.parquet
SHOWN = 5  # identifiers that a message names


class UnknownItems(UserWarning):
    """Identifiers that are no items of the data set; they were left out."""


class ItemTable:
    """items.parquet of a data set, of which columns are read when they are needed.

    Attributes:
        path: the file.
        dataset: name of the data set.
    """

    def __init__(self, dataset: Dataset) -> None:
        """
        Raises:
            UserError: the file is missing or unreadable.
        """
        self.path, self.dataset = dataset.items, dataset.name
        self._columns = self._opened().schema_arrow.names

    def _opened(self) -> pq.ParquetFile:
        with reading(self.path, "Parquet file", "Make the data set again."):
            return pq.ParquetFile(self.path)

    def _read(self, columns: Sequence[str]) -> pl.DataFrame:
        table = pl.from_arrow(self._opened().read(columns=list(columns)))
        assert isinstance(table, pl.DataFrame)
        return table

    @property
    def title_column(self) -> str | None:
        """Name of the column of titles: one known by its name, else the first of text; None without text."""
        lower = {name.lower(): name for name in reversed(self._columns)}
        known = next((lower[name] for name in TITLES if name in lower), None)
        if known:
            return known
        schema = self._opened().schema_arrow
        texts = (n for n in self._columns if n not in FIXED and str(schema.field(n).type) == "string")
        return next(texts, "text" if "text" in self._columns else None)

    @cached_property
    def names(self) -> pl.DataFrame:
        """Columns item_id and title of all items, both text; the identifier stands for a missing title."""
        column = self.title_column
        table = self._read(["item_id", *([column] if column else [])])
        item_id = pl.col("item_id").cast(pl.String)
        title = pl.col(column).cast(pl.String).str.replace_all(r"\s+", " ") if column else item_id
        empty = title.is_null() | (title.str.strip_chars() == "")
        return table.select(item_id=item_id, title=pl.when(empty).then(item_id).otherwise(title))

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All columns but the item numbers, in the order of the numbers."""
        return self._read([name for name in self._columns if name != "item"]).with_columns(
            pl.col("item_id").cast(pl.String)
        )

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names["item_id"].to_list())}

    def __len__(self) -> int:
        return len(self.names)

    def numbers(self, identifiers: Sequence[str]) -> np.ndarray:
        """Return the numbers of items, −1 for unknown identifiers: int64 [identifiers]."""
        return np.array([self._numbers.get(str(name), -1) for name in identifiers], np.int64)

    def known(self, identifiers: Sequence[str], of: str) -> np.ndarray:
        """Return the numbers of the known items among identifiers, with a warning about the others.

        Args:
            of: what the identifiers come from, for the warning.

        Returns:
            int64 [known].
        """
        numbers = self.numbers(identifiers)
        if (numbers < 0).any():
            unknown = [str(name) for name, number in zip(identifiers, numbers, strict=True) if number < 0]
            more = f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else ""
            warnings.warn(
                f"{of}: {len(unknown):,} of {len(identifiers):,} ids are no items of {self.dataset} and were "
                f"left out: {', '.join(unknown[:SHOWN])}{more}.",
                UnknownItems,
                stacklevel=3,
            )
        return numbers[numbers >= 0]

    def qualifying(
        self,
        where: str | None = None,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] | None = None,
    ) -> np.ndarray | None:
        """Return the numbers of the items that qualify, int64, ascending; None if all do.

        Args:
            where: condition on the columns of the items.
            allow: identifiers of the only items that qualify.
            deny: identifiers of items that do not.

        Raises:
            UserError: the condition cannot be read, or no item qualifies.
        """
        if where is None and allow is None and deny is None:
            return None
        keeps = np.ones(len(self), bool)
        if where is not None:
            keeps &= self.frame.select(condition(where, self.frame.schema)).to_series().to_numpy()
        if allow is not None:
            allowed = np.zeros(len(self), bool)
            allowed[self.known(allow, "allow")] = True
            keeps &= allowed
        if deny is not None:
            keeps[self.known(deny, "deny")] = False
        if not keeps.any():
            given = {"--where": where, "--allow": allow, "--deny": deny}
            flags = " and ".join(flag for flag, value in given.items() if value is not None)
            raise UserError(f"No item of {self.dataset} qualifies for {flags}. Relax the filter.")
        return np.flatnonzero(keeps)

    def matching(self, part: str) -> np.ndarray:
        """Return the numbers of the items whose title contains a text, in any case: int64; those whose title
        is the text alone if there are any.
        """
        exact = np.flatnonzero((self._lower_titles == part.lower()).to_numpy())
        return exact if len(exact) else self.containing(part)

    def containing(self, part: str) -> np.ndarray:
        """Return the numbers of the items whose title contains a text, in any case: int64, ascending."""
        return np.flatnonzero(self._lower_titles.str.contains(part.lower(), literal=True).to_numpy())

    @cached_property
    def _lower_titles(self) -> pl.Series:
        return self.names["title"].str.to_lowercase()


def read_column(path: Path, name: str) -> pl.Series:
    """Return a column of a Parquet file."""
    table = pl.from_arrow(pq.read_table(path, columns=[name]))
    assert isinstance(table, pl.DataFrame)
    return table.to_series()
