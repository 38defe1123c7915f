"""The semantic IDs that a model speaks, read and checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.workspace import Dataset


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items of a data set as semantic IDs.

    Attributes:
        sids: int64 [N, H], distinct rows, codes from 0 to V − 1.
        codes: V.
    """

    sids: np.ndarray
    codes: int

    @property
    def digits(self) -> int:
        """H."""
        return self.sids.shape[1]


def load_catalogue(dataset: Dataset, sids: str) -> Catalogue:
    """Read the semantic IDs of a data set.

    Raises:
        UserError: they are missing, unreadable, not distinct, out of range, or were made from other items.
    """
    path = dataset.sids(sids)
    again = f"Run `maskgr tokenize --dataset {dataset.name}` again."
    digits = artifacts.matrix(artifacts.read(path, "sids", hint="Run `maskgr tokenize` first."), "sid", path).astype(np.int64)
    found = artifacts.provenance(path) or {}
    codes = int(found.get("config", {}).get("codebook") or digits.max() + 1)
    made_from = found.get("inputs", {}).get("items")
    items = pq.read_metadata(dataset.items).num_rows if dataset.items.exists() else len(digits)
    if len(digits) != items or (made_from and dataset.items.exists() and made_from["sha256"] != artifacts.digest(dataset.items)):
        raise UserError(f"{path} holds SIDs of other items ({len(digits):,}) than {dataset.items} now does ({items:,}). {again}")
    if digits.min() < 0 or digits.max() >= codes:
        row = int(((digits < 0) | (digits >= codes)).any(1).argmax())
        raise UserError(f"{path}: the SID in row {row} is {digits[row].tolist()}, outside 0 to {codes - 1}. {again}")
    if len(np.unique(digits, axis=0)) != len(digits):
        raise UserError(f"{path}: two items have the same SID. {again}")
    return Catalogue(digits, codes)
