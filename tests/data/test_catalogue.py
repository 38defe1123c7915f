"""Catalogues read from a data set: which semantic IDs and texts are refused, and with which words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.data.catalogue import Catalogue, load_sids, load_text
from pipelines.errors import UserError
from pipelines.workspace import Dataset, Workspace

SIDS = [[0, 1, 0], [2, 1, 0], [3, 0, 0], [1, 1, 0]]


def write_sids(dataset: Dataset, sids: list[list[int]], codebook: int | None = 4) -> str:
    table = pa.table(
        {
            "item": pa.array(range(len(sids)), pa.int32()),
            "sid": pa.array(sids, pa.list_(pa.int16(), len(sids[0]))),
        }
    )
    config = {"codebook": codebook} if codebook else {}
    artifacts.write(dataset.sids("mine"), "sids", table, config=config, inputs={})
    return "mine"


@pytest.fixture
def dataset(workspace: Workspace) -> Dataset:
    return workspace.dataset("alone")  # no items.parquet beside the semantic IDs


def test_semantic_ids_are_read(dataset: Dataset) -> None:
    found = load_sids(dataset, write_sids(dataset, SIDS))
    assert (found.items, found.codes, found.require_sids().tolist()) == (4, 4, SIDS)
    assert load_sids(dataset, write_sids(dataset, SIDS, None)).codes == 4  # one more than the largest code


@pytest.mark.parametrize(
    ("row", "sid", "message"),
    [
        (2, [3, 4, 0], r"the SID in row 2 is \[3, 4, 0\], outside 0 to 3"),
        (1, [2, 1, -1], r"the SID in row 1 is \[2, 1, -1\], outside 0 to 3"),  # too small alone
        (3, [0, 1, 0], "two items have the same SID"),
    ],
)
def test_semantic_ids_that_are_refused(dataset: Dataset, row: int, sid: list[int], message: str) -> None:
    wrong = [sid if number == row else own for number, own in enumerate(SIDS)]
    with pytest.raises(UserError, match=message):
        load_sids(dataset, write_sids(dataset, wrong))


def test_long_semantic_ids_must_be_distinct(dataset: Dataset) -> None:
    """100 digits, of which the last alone, or none, distinguishes the items."""
    sids = [[3] * 99 + [item] for item in range(4)]
    assert load_sids(dataset, write_sids(dataset, sids)).require_sids().tolist() == sids
    with pytest.raises(UserError, match="two items have the same SID"):
        load_sids(dataset, write_sids(dataset, [*sids, sids[2]]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_refused_with_its_row(dataset: Dataset, value: float) -> None:
    text = np.ones((5, 3), np.float32)
    text[3, 1] = value
    path = dataset.embeddings("mine")
    table = pa.table(
        {"item": pa.array(range(5), pa.int32()), "embedding": pa.array(list(text), pa.list_(pa.float32(), 3))}
    )
    artifacts.write(path, "embeddings", table, config={}, inputs={})
    with pytest.raises(UserError, match="row 3 is not finite"):
        load_text(path)


def test_what_was_not_loaded_is_our_fault() -> None:
    with pytest.raises(ValueError, match="no semantic IDs"):
        Catalogue(3).require_sids()
    with pytest.raises(ValueError, match="no text embeddings"):
        Catalogue(3).require_text()
