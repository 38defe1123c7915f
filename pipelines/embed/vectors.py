"""Vectors that another program made, matched with the items by id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError, reading
from pipelines.keyed import checked_ids, numbers_of, read_keyed
from pipelines.progress import Progress

if TYPE_CHECKING:
    import polars as pl

MISSING = 0.5  # largest share of the items that may have no vector
NAMES = ("embedding", "vector", "embeddings", "vectors", "emb")  # of a column of vectors, best first
WHOLE = "Check that the file is whole and its name fits its format."


def read_vectors(config: EmbedConfig, items: pa.Table, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Read the vectors of a configuration with `source`, and report rows and items without a partner.

    Args:
        items: artifact of kind "items".

    Returns:
        vectors, float32 [n, E], all finite; their items, int64 [n].

    Raises:
        UserError: a file cannot be used, an id occurs twice, a number is not finite, or more than half of the
            items have no vector.
    """
    path = Path(config.source or "").expanduser()
    for flag, file in (("--from", path), ("--ids", Path(config.ids or path).expanduser())):
        if not file.is_file():
            raise UserError(f"{flag} {file} does not exist or is not a file.")
    vectors, ids = _read(path, config, items, progress)
    rows = numbers_of(path, ids, items)  # [rows]
    kept = rows >= 0
    if strange := int((~kept).sum()):
        example = ids[int(np.argmin(kept))]
        progress.say(f"{strange:,} of {len(ids):,} ids of {path} are no items, e.g. {example}: left out.")
    missing = len(items) - int(kept.sum())
    if missing > MISSING * len(items):
        raise UserError(
            f"{path} has no vector of {missing:,} of the {len(items):,} items; at most {MISSING:.0%} may "
            "have none. Give a file with all items."
        )
    vectors, rows = vectors[kept], rows[kept]
    wrong = ~np.isfinite(vectors).all(axis=1)  # [n]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{path}: the vector of item {items['item_id'][int(rows[row])]} holds NaN, infinite or huge "
            "values. Write the file again."
        )
    return vectors, rows


def _read(
    path: Path, config: EmbedConfig, items: pa.Table, progress: Progress
) -> tuple[np.ndarray, list[str]]:
    """Return the vectors, float32 [rows, E], and the ids of the rows."""
    suffix = path.suffix.lower()
    if suffix != ".npy" and config.ids is not None:
        raise UserError(
            f"--ids {config.ids} has no effect on {path}, which holds the ids itself. Leave it out."
        )
    if suffix == ".npz":
        return _read_npz(path)
    if suffix != ".npy":
        table, ids = read_keyed(path)
        return _of_table(path, table, ids)
    vectors = _matrix(path, _load(path))
    if config.ids is not None:
        ids = _read_ids(Path(config.ids).expanduser())
        if len(ids) != len(vectors):
            raise UserError(f"{config.ids} has {len(ids):,} ids for the {len(vectors):,} rows of {path}.")
        return vectors, ids
    if len(vectors) != len(items):
        raise UserError(
            f"{path} has {len(vectors):,} rows and the data set {len(items):,} items. Say with --ids FILE "
            "which item each row is."
        )
    progress.say(f"No --ids: row r of {path} is taken as item r, in the order of items.parquet.")
    return vectors, items["item_id"].cast(pa.string()).to_pylist()


def _read_npz(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read the array of two dimensions and the array of one dimension that an .npz file must hold."""
    with reading(path, "NumPy archive", WHOLE), np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    matrices = [array for array in arrays.values() if array.ndim == 2]
    lists = [array for array in arrays.values() if array.ndim == 1]
    if len(matrices) != 1 or len(lists) != 1 or len(matrices[0]) != len(lists[0]):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise UserError(f"{path} holds {shapes}; expected ids [rows] and vectors [rows, dimensions] alone.")
    return _matrix(path, matrices[0]), checked_ids(path, _texts(path, lists[0]))


def _load(path: Path) -> np.ndarray:
    with reading(path, "NumPy file", WHOLE):
        array: np.ndarray = np.load(path, allow_pickle=False)
    return array


def _matrix(path: Path, array: np.ndarray) -> np.ndarray:
    """Return an array as float32 [rows, E].

    Raises:
        UserError: the array has another number of dimensions, holds no numbers or has no columns.
    """
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        raise UserError(
            f"{path} holds {array.dtype} of shape {list(array.shape)}; expected numbers [rows, dimensions]."
        )
    with np.errstate(over="ignore"):  # infinite values are refused with the item's id
        return array.astype(np.float32)


def _read_ids(path: Path) -> list[str]:
    """Read the ids of rows: lines of a .txt file, an .npy file, or a table with a column of ids."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return checked_ids(path, _texts(path, _load(path)))
    if suffix == ".txt":
        with reading(path, "text file", "Write one id a line, in UTF-8."):
            return checked_ids(path, path.read_text(encoding="utf-8-sig").splitlines())
    return read_keyed(path)[1]


def _texts(path: Path, array: np.ndarray) -> list[str]:
    """Return an array of ids as texts.

    Raises:
        UserError: the array holds neither texts nor whole numbers.
    """
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise UserError(f"{path} holds {array.dtype} of shape {list(array.shape)}; expected a list of ids.")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    result: list[str] = array.astype(str).tolist()
    return result


def _of_table(path: Path, table: pl.DataFrame, ids: list[str]) -> tuple[np.ndarray, list[str]]:
    """Return the vectors of a table and the ids of the rows that have one.

    The vectors are a column of lists of numbers, or else all columns of numbers side by side.
    """
    import polars as pl

    lists = [name for name, kind in table.schema.items() if isinstance(kind, pl.List) and _is_numeric(kind)]
    numbers = [name for name, kind in table.schema.items() if kind.is_numeric()]
    named = [name for name in NAMES if name in lists] or lists
    if lists and (len(lists) == 1 or named != lists):
        column = table[named[0]]
        has = (column.list.len() > 0).fill_null(False)  # [rows]
        lengths = column.filter(has).list.len()  # [n]
        if lengths.n_unique() > 1:
            row = lengths.arg_max()
            raise UserError(
                f"{path}: the lists of column {column.name} have {lengths.min()} to {lengths.max()} numbers; "
                f"vectors need one length (row {row} has the longest)."
            )
        flat = column.filter(has).explode().cast(pl.Float32).to_numpy()
        kept = [key for key, present in zip(ids, has, strict=True) if present]
        return _matrix(path, flat.reshape(len(kept), -1)), kept
    if lists or not numbers:
        found = ", ".join(f"{name} ({kind})" for name, kind in table.schema.items()) or "none"
        raise UserError(
            f"{path} needs one column of lists of numbers, called {NAMES[0]} if there are several, or a "
            f"column of numbers for each dimension; besides the ids it has {found}."
        )
    return _matrix(path, table.select(numbers).cast(pl.Float32).to_numpy()), ids


def _is_numeric(kind: Any) -> bool:
    inner = kind.inner
    return bool(inner.is_numeric())
