"""Sequences that another program wrote: a list of Parquet files, which stay where they are.

The sequences.parquet of such a data set holds no sequences. It has a row for each file with its size, time of
the last change and digest, and records which columns hold the users and the lists of their items. Ids of
items become item numbers while the files are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import artifacts, typed_json
from pipelines.errors import UserError

KIND = "sequence_files"


class ItemNumbers:
    """Numbers of items by their ids."""

    def __init__(self, ids: pa.ChunkedArray) -> None:
        """
        Args:
            ids: distinct ids in the order of the item numbers.
        """
        self._ids = ids.combine_chunks().cast(pa.string())
        try:
            whole = self._ids.cast(pa.int64())
        except pa.ArrowInvalid:  # an id is no number
            self._order = None
        else:
            self._order = np.argsort(whole.to_numpy(), kind="stable")
            self._sorted = whole.to_numpy()[self._order]

    def of(self, ids: pa.Array) -> np.ndarray:
        """Return the number of each id, −1 for what is no item, int32 [ids].

        Args:
            ids: whole numbers or strings; a number is the item whose id is written so.
        """
        if pa.types.is_dictionary(ids.type):
            of_values = np.append(self.of(ids.dictionary), np.int32(-1))
            return of_values[ids.indices.fill_null(len(ids.dictionary)).to_numpy(zero_copy_only=False)]
        if pa.types.is_integer(ids.type) and self._order is not None:
            values = ids.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
            places = np.searchsorted(self._sorted, values).clip(max=len(self._sorted) - 1)
            found = (self._sorted[places] == values) & ids.is_valid().to_numpy(zero_copy_only=False)
            return np.where(found, self._order[places], -1).astype(np.int32)
        found = pc.index_in(ids.cast(pa.string()), value_set=self._ids, skip_nulls=True)
        numbers: np.ndarray = found.fill_null(-1).to_numpy(zero_copy_only=False)
        return numbers.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Listing:
    """Files of sequences.

    Attributes:
        files: Parquet files with a row for each user, in the order of the user numbers.
        user: column of the users' ids.
        items: column of the lists of items.
        numbers: item numbers by ids; None where the lists hold item numbers.
    """

    files: list[Path]
    user: str = "user_id"
    items: str = "items"
    numbers: ItemNumbers | None = None


def is_list(kind: pa.DataType) -> bool:
    """Return True for a type of lists of whole numbers or strings, as ids of items are."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    return is_id(kind.value_type)


def is_id(kind: pa.DataType) -> bool:
    """Return True for a type of whole numbers or strings."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(check(value) for check in (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string))


def is_listing(path: Path) -> bool:
    """Return True if an artifact lists files of sequences."""
    provenance = artifacts.provenance(path)
    return provenance is not None and provenance["stage"] == KIND


class Columns(TypedDict):
    """Folder of the files of a list, and the columns of users and of their lists of items."""

    folder: str
    users: str
    lists: str


def recorded_columns(path: Path) -> Columns:
    """Return what a list of files records beside the files.

    Raises:
        UserError: it is damaged.
    """
    provenance = artifacts.provenance(path)
    config = provenance["config"] if provenance else {}
    found = {name: config[name] for name in Columns.__annotations__ if name in config}
    try:
        typed_json.check(found, Columns)
    except typed_json.Mismatch as error:
        advice = "Import the files again with: maskgr import NAME --sequences DIR --items FILE --force"
        raise UserError(f"{path}: {error}. {advice}") from None
    columns: Columns = found  # type: ignore[assignment]
    return columns


def read_listing(path: Path) -> Listing:
    """Read the list of the files of a data set, and check that the files are those that were imported.

    A file of another time than recorded is the same if its digest is.

    Args:
        path: sequences.parquet of the data set, beside its items.

    Raises:
        UserError: a file is missing or has changed.
    """
    table = artifacts.read(path, KIND)
    config = recorded_columns(path)
    folder, name = Path(config["folder"]), path.parent.name
    advice = f"Put it back, or import again with --force: maskgr import {name} --sequences {folder} --items …"
    for row in table.to_pylist():
        _check_file(folder / row["file"], row, name, advice)
    items = artifacts.read(path.with_name("items.parquet"), "items", columns=["item", "item_id"])
    files = [folder / file for file in table["file"].to_pylist()]
    return Listing(files, config["users"], config["lists"], ItemNumbers(items["item_id"]))


def _check_file(file: Path, row: dict[str, object], name: str, advice: str) -> None:
    """Check that a file is the one that was imported.

    Raises:
        UserError: it is missing or has changed.
    """
    try:
        status = file.stat()
    except (OSError, ValueError):  # ValueError: no valid file name
        raise UserError(f"{file}, a file of the data set {name}, does not exist. {advice}") from None
    if status.st_size == row["bytes"] and status.st_mtime_ns == row["modified"]:
        return
    if status.st_size != row["bytes"] or artifacts.file_digest(file) != row["sha256"]:
        raise UserError(f"{file}, a file of the data set {name}, has changed since its import. {advice}")
