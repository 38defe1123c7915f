"""Catalogue: the items that a model recommends, with their semantic IDs and text embeddings."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.formats import Source
from pipelines.workspace import Dataset

BLOCK_ROWS = 1 << 16  # rows that are hashed at once


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items of a data set.

    Attributes:
        items: N.
        sids: semantic IDs, integers [N, H], distinct rows, codes from 0 to V − 1; None for models that
            identify items by number.
        codes: V; 0 without semantic IDs.
        text: text embeddings, float32 [N, E]; None for models that do not read them.
    """

    items: int
    sids: np.ndarray | None = None
    codes: int = 0
    text: np.ndarray | None = None

    @staticmethod
    def of(sids: np.ndarray, codes: int, text: np.ndarray | None = None) -> Catalogue:
        """Return a catalogue with semantic IDs, see `Catalogue` for the arguments."""
        return Catalogue(len(sids), sids, codes, text)

    def subset(self, items: np.ndarray) -> Catalogue:
        """Return the catalogue of some items, int64 [N'], numbered anew in this order."""
        sids, text = (None if array is None else array[items] for array in (self.sids, self.text))
        return Catalogue(len(items), sids, self.codes, text)

    def require_sids(self) -> np.ndarray:
        """Return the semantic IDs, int64 [N, H].

        Raises:
            ValueError: the catalogue was loaded without them.
        """
        if self.sids is None:
            raise ValueError("the catalogue holds no semantic IDs")
        return self.sids

    def require_text(self) -> np.ndarray:
        """Return the text embeddings, float32 [N, E].

        Raises:
            ValueError: the catalogue was loaded without them.
        """
        if self.text is None:
            raise ValueError("the catalogue holds no text embeddings")
        return self.text


def digests_of_items(catalogue: Catalogue, dataset: Dataset, items: int) -> dict[str, str]:
    """Return the sha256 of what the first items are: their ids, semantic IDs and text embeddings.

    The digests stay the same while later items are added to the catalogue.

    Args:
        catalogue: catalogue of the data set.
        dataset: data set, whose ids count if its items can be found.
        items: number of items, at most N.

    Returns:
        Digests by part: "item ids", "semantic IDs", "embeddings", as far as the catalogue holds them.
    """
    parts: dict[str, Iterable[bytes]] = {}
    if dataset.items.exists():
        ids = artifacts.read(dataset.items, "items", columns=["item_id"])["item_id"].slice(0, items)
        parts["item ids"] = _json_of(ids)
    if catalogue.sids is not None:
        codes = str(catalogue.codes).encode()
        parts["semantic IDs"] = itertools.chain(_bytes_of(catalogue.sids[:items], np.int64), [codes])
    if catalogue.text is not None:
        parts["embeddings"] = _bytes_of(catalogue.text[:items], np.float32)
    return {name: _sha256(blocks) for name, blocks in parts.items()}


def _json_of(values: pa.ChunkedArray) -> Iterator[bytes]:
    """Yield the JSON list of some values in blocks."""
    separator = b"["
    for start in range(0, len(values), BLOCK_ROWS):
        block = json.dumps(values.slice(start, BLOCK_ROWS).to_pylist(), default=str)
        yield separator + block[1:-1].encode()
        separator = b", "
    yield b"]" if len(values) else b"[]"


def _bytes_of(rows: np.ndarray, dtype: DTypeLike) -> Iterator[bytes]:
    """Yield the bytes of an array as values of a type, in blocks of rows."""
    for start in range(0, len(rows), BLOCK_ROWS):
        yield np.ascontiguousarray(rows[start : start + BLOCK_ROWS], dtype).tobytes()


def _sha256(blocks: Iterable[bytes]) -> str:
    sha = hashlib.sha256()
    for block in blocks:
        sha.update(block)
    return sha.hexdigest()


def sources(dataset: Dataset, sids: str | None, needs: tuple[str, ...]) -> dict[str, Path]:
    """Return the artifacts that a run is trained on, by name.

    These are the sequences and, as needed, semantic IDs and text embeddings. The text embeddings are those
    that the semantic IDs were made from.

    Args:
        sids: name of the semantic IDs; None for models that identify items by number.
        needs: `needs` of the model's configuration.

    Raises:
        UserError: text embeddings are needed, and the semantic IDs name none or the named ones changed.
    """
    paths = {"sequences": dataset.sequences}
    if sids is None:
        return paths
    path = dataset.sids(sids)
    paths["sids"] = path
    if "embeddings" not in needs:
        return paths
    source = _embeddings_behind(path)
    if source is None:
        raise UserError(
            f"The model needs text embeddings, and {path} names none that it was made from. Make SIDs with "
            "`maskgr tokenize`, or use --no-centroids if the model needs them only for its initial "
            "embeddings."
        )
    embeddings = dataset.embeddings(Path(source["path"]).stem)
    if not embeddings.exists() or artifacts.digest(embeddings) != source["sha256"]:
        raise UserError(
            f"{path} was made from other embeddings than {embeddings} now holds. "
            "Run `maskgr tokenize --force`."
        )
    return {**paths, "embeddings": embeddings}


def _embeddings_behind(sids: Path) -> Source | None:
    """Return path and digest of the embeddings that semantic IDs were made from; None if they name none."""
    provenance = artifacts.provenance(sids)
    return provenance["inputs"].get("embeddings") if provenance else None


def path_of_text_behind(sids: Path) -> Path | None:
    """Return the file of the text embeddings that semantic IDs were made from.

    Returns:
        None if the semantic IDs name none, or the named ones are gone or changed.
    """
    source = _embeddings_behind(sids)
    if source is None:
        return None
    path = sids.parent / source["path"]
    return path if path.exists() and artifacts.digest(path) == source["sha256"] else None


def text_behind(sids: Path) -> np.ndarray | None:
    """Return the text embeddings that semantic IDs were made from, float32 [N, E]; None as
    `path_of_text_behind`.
    """
    path = path_of_text_behind(sids)
    return None if path is None else load_text(path)


def are_of_interactions(dataset: Dataset, sids: str) -> bool:
    """Return True if semantic IDs were made from embeddings that interactions of the users decided."""
    path = dataset.sids(sids)
    source = _embeddings_behind(path)
    embeddings = artifacts.provenance(path.parent / source["path"]) if source else None
    return embeddings is not None and "sequences" in embeddings["inputs"]


def load_catalogue(dataset: Dataset, sids: str | None, needs: tuple[str, ...] = ()) -> Catalogue:
    """Read the data of the items that a model needs.

    Args:
        sids: name of the semantic IDs; None for models that identify items by number.
        needs: `needs` of the model's configuration.

    Raises:
        UserError: a file is missing or unreadable; semantic IDs are not distinct, out of range, or were made
            from other items.
    """
    if sids is None and "sids" in needs:
        raise UserError(
            "The model needs semantic IDs, and none are named. "
            f"Make some with `maskgr tokenize --dataset {dataset.name}`."
        )
    if sids is None:
        hint = f"Run `maskgr download {dataset.name}` or `maskgr import` first."
        return Catalogue(artifacts.read(dataset.items, "items", hint=hint, columns=["item"]).num_rows)
    catalogue = load_sids(dataset, sids)
    if "embeddings" not in needs:
        return catalogue
    return dataclasses.replace(catalogue, text=load_text(sources(dataset, sids, needs)["embeddings"]))


def load_text(path: Path) -> np.ndarray:
    """Read text embeddings, float32 [N, E].

    Args:
        path: path of the embeddings.

    Raises:
        UserError: the file cannot be read, or an embedding is not finite.
    """
    table = artifacts.read(path, "embeddings", hint="Run `maskgr embed` first.")
    vectors = artifacts.matrix(table, "embedding", path).astype(np.float32)  # [N, E]
    wrong = ~np.isfinite(vectors).all(axis=1)  # [N]
    if wrong.any():
        raise UserError(
            f"{path}: the embedding in row {int(wrong.argmax())} is not finite. Run `maskgr embed --force`."
        )
    return vectors


def load_sids(dataset: Dataset, sids: str) -> Catalogue:
    """Read semantic IDs.

    Args:
        sids: name of the semantic IDs.

    Raises:
        UserError: they are missing, unreadable, not distinct, out of range, or were made from other items.
    """
    path = dataset.sids(sids)
    advice = f"Run `maskgr tokenize --dataset {dataset.name}` again."
    digits = artifacts.matrix(artifacts.read(path, "sids", hint="Run `maskgr tokenize` first."), "sid", path)
    if not np.issubdtype(digits.dtype, np.integer):
        raise UserError(f"{path}: column sid holds {digits.dtype} values; codes are whole numbers. {advice}")
    provenance = artifacts.provenance(path)
    codebook = provenance["config"].get("codebook") if provenance else None
    codes = codebook if type(codebook) is int and codebook > 0 else int(digits.max()) + 1
    _check_items(dataset, path, len(digits), provenance, advice)
    wrong = ((digits < 0) | (digits >= codes)).any(1)  # [N]
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{path}: the SID in row {row} is {digits[row].tolist()}, outside 0 to {codes - 1}. {advice}"
        )
    if not _distinct(digits, codes):
        raise UserError(f"{path}: two items have the same SID. {advice}")
    return Catalogue.of(digits.astype(np.int32), codes)


def _distinct(digits: np.ndarray, codes: int) -> bool:
    """Return True if no two rows of [N, H] codes from 0 to V − 1 are equal."""
    numbers, count = np.zeros(len(digits), np.int64), 1  # of the first digits, from 0 to count − 1
    for column in digits.T:
        if count * codes >= 2**63:
            distinct, numbers = np.unique(numbers, return_inverse=True)
            count = len(distinct)
            if count == len(digits):
                return True
        numbers *= codes
        numbers += column
        count *= codes
    numbers.sort()
    return not bool((numbers[1:] == numbers[:-1]).any())


def _check_items(
    dataset: Dataset, sids: Path, count: int, provenance: artifacts.Provenance | None, advice: str
) -> None:
    """Check that semantic IDs were made from the items that the data set now holds.

    Raises:
        UserError: they were made from other items.
    """
    if not dataset.items.exists():
        return
    items = artifacts.count(dataset.items)
    source = provenance["inputs"].get("items") if provenance else None
    if count != items or (source and source["sha256"] != artifacts.digest(dataset.items)):
        raise UserError(
            f"{sids} holds SIDs of other items ({count:,}) than {dataset.items} now does ({items:,}). "
            f"{advice}"
        )
