"""The items that a model recommends, with what it needs to know of them, read and checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.workspace import Dataset


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items of a data set.

    Attributes:
        items: N.
        sids: semantic IDs, int64 [N, H], distinct rows, codes from 0 to V − 1; None for models that know items by number.
        codes: V; 0 without semantic IDs.
        text: text embeddings, float32 [N, E]; None for models that read none.
    """

    items: int
    sids: np.ndarray | None = None
    codes: int = 0
    text: np.ndarray | None = None

    @staticmethod
    def of(sids: np.ndarray, codes: int, text: np.ndarray | None = None) -> Catalogue:
        """Items with semantic IDs."""
        return Catalogue(len(sids), sids, codes, text)


def sources(dataset: Dataset, sids: str | None, needs: tuple[str, ...]) -> dict[str, Path]:
    """What a run is trained on, by name: sequences, semantic IDs and the text embeddings that these were made from, as needed.

    Raises:
        UserError: the semantic IDs name no embeddings, or others than there are now.
    """
    found = {"sequences": dataset.sequences}
    if sids is None:
        return found
    path = dataset.sids(sids)
    found["sids"] = path
    if "embeddings" not in needs:
        return found
    made_from = (artifacts.provenance(path) or {}).get("inputs", {}).get("embeddings")
    if made_from is None:
        raise UserError(
            f"The model needs text embeddings, and {path} names none that it was made from. Make SIDs with `maskgr tokenize`, or take "
            "--no-centroids where the model asks for them only to start from."
        )
    source = dataset.embeddings(Path(made_from["path"]).stem)
    if not source.exists() or artifacts.digest(source) != made_from["sha256"]:
        raise UserError(
            f"{path} was made from other embeddings than {source} now holds. Run `maskgr tokenize --force`."
        )
    return {**found, "embeddings": source}


def load_catalogue(dataset: Dataset, sids: str | None, needs: tuple[str, ...] = ()) -> Catalogue:
    """Read what a model needs to know of a data set's items.

    Args:
        sids: name of the semantic IDs; None for models that know items by number.
        needs: of the model's configuration.

    Raises:
        UserError: something is missing or unreadable; semantic IDs are not distinct, out of range, or were made from other items.
    """
    if sids is None and "sids" in needs:
        raise UserError(
            f"The model needs semantic IDs, and none are named. Make some with `maskgr tokenize --dataset {dataset.name}`."
        )
    if sids is None:
        hint = f"Run `maskgr download {dataset.name}` or `maskgr import` first."
        return Catalogue(artifacts.read(dataset.items, "items", hint=hint, columns=["item"]).num_rows)
    found = load_sids(dataset, sids)
    return (
        dataclasses.replace(found, text=load_text(sources(dataset, sids, needs)["embeddings"]))
        if "embeddings" in needs
        else found
    )


def load_text(path: Path) -> np.ndarray:
    """The items' text embeddings, float32 [N, E].

    Raises:
        UserError: they cannot be read.
    """
    table = artifacts.read(path, "embeddings", hint="Run `maskgr embed` first.")
    found = artifacts.matrix(table, "embedding", path).astype(np.float32)
    if not np.isfinite(found).all():
        row = int((~np.isfinite(found)).any(axis=1).argmax())
        raise UserError(f"{path}: the embedding in row {row} is not finite. Run `maskgr embed --force`.")
    return found


def load_sids(dataset: Dataset, sids: str) -> Catalogue:
    """Read the semantic IDs of a data set.

    Raises:
        UserError: they are missing, unreadable, not distinct, out of range, or were made from other items.
    """
    path = dataset.sids(sids)
    again = f"Run `maskgr tokenize --dataset {dataset.name}` again."
    digits = artifacts.matrix(artifacts.read(path, "sids", hint="Run `maskgr tokenize` first."), "sid", path)
    if not np.issubdtype(digits.dtype, np.integer):
        raise UserError(f"{path}: column sid holds {digits.dtype} values; codes are whole numbers. {again}")
    digits = digits.astype(np.int64)
    found = artifacts.provenance(path) or {}
    codebook = found.get("config", {}).get("codebook")
    codes = codebook if type(codebook) is int and codebook > 0 else int(digits.max()) + 1
    made_from = found.get("inputs", {}).get("items")
    items = (
        artifacts.read(dataset.items, "items", columns=["item"]).num_rows
        if dataset.items.exists()
        else len(digits)
    )
    if len(digits) != items or (
        made_from and dataset.items.exists() and made_from["sha256"] != artifacts.digest(dataset.items)
    ):
        raise UserError(
            f"{path} holds SIDs of other items ({len(digits):,}) than {dataset.items} now does ({items:,}). {again}"
        )
    if digits.min() < 0 or digits.max() >= codes:
        row = int(((digits < 0) | (digits >= codes)).any(1).argmax())
        raise UserError(
            f"{path}: the SID in row {row} is {digits[row].tolist()}, outside 0 to {codes - 1}. {again}"
        )
    if len(np.unique(digits, axis=0)) != len(digits):
        raise UserError(f"{path}: two items have the same SID. {again}")
    return Catalogue.of(digits, codes)
