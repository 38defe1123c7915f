"""Semantic IDs of new items: old ones stay, new ones come from the codebooks as they were fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.extend import extend_sids
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress
from tests.tokenize.test_build import embed, grouped, read_sids

CONFIGS = {
    "kmeans": TokenizeConfig(2, 8),
    "unit": TokenizeConfig(2, 8, normalize=True, unit_residuals=True),
    "pq": TokenizeConfig(4, 8, "pq"),
    "opq": TokenizeConfig(4, 8, "opq", iterations=3),
    "rqvae": TokenizeConfig(2, 8, "rqvae", steps=30),
    "random": TokenizeConfig(2, 8, "random"),
}
OLD = grouped()
NEW = np.concatenate([OLD[[3, 3, 41]], OLD[5:6] + 0.3])


@pytest.fixture
def dataset(toy: Workspace) -> Dataset:
    data = toy.dataset("toy")
    embed(data, OLD)
    return data


def grow(dataset: Dataset, new: np.ndarray) -> None:
    """Append items with these embeddings, as `extend_embeddings` does."""
    count = 60 + len(new)
    table = pa.table(
        {
            "item": pa.array(range(count), pa.int32()),
            "item_id": [f"item-{i}" for i in range(count)],
            "text": [f"group {i // 10} number {i}" for i in range(60)] + ["new"] * len(new),
        }
    )
    artifacts.write(dataset.items, "items", table, config={})
    embed(dataset, np.concatenate([OLD, new]))


@pytest.mark.parametrize("method", CONFIGS)
def test_old_ones_stay_and_an_old_embedding_gets_the_old_codes(
    dataset: Dataset, progress: ListProgress, method: str
) -> None:
    config = CONFIGS[method]
    path = build_sids(dataset, config, progress)
    old, m = read_sids(path), config.num_levels
    error = {r["level"]: r["value"] for r in quality(dataset, path.stem) if r["measure"] == "relative_error"}
    grow(dataset, NEW)
    assert extend_sids(dataset, path.stem, progress) == path
    sids = read_sids(path)
    assert sids.dtype == old.dtype and sids[:60].tobytes() == old.tobytes()
    assert len(np.unique(sids, axis=0)) == 64
    if method != "random":
        np.testing.assert_array_equal(sids[60:63, :m], old[[3, 3, 41], :m])
        size = (old[:, :m] == old[3, :m]).all(1).sum()
        numbers = sids[60:62, m:].astype(int) @ 8 ** np.arange(sids.shape[1] - m - 1, -1, -1)
        assert numbers.tolist() == [size, size + 1]
    rows = quality(dataset, path.stem)
    assert {r["level"]: r["value"] for r in rows if r["measure"] == "relative_error"} == error
    assert next(r["value"] for r in rows if r["measure"] == "items") == 64
    build_sids(dataset, config, progress)
    assert "up to date" in progress.messages[-1]


def quality(dataset: Dataset, name: str) -> list[dict[str, Any]]:
    return artifacts.read(dataset.quality(name), "quality").to_pylist()


@pytest.mark.parametrize("method", CONFIGS)
def test_two_extensions_equal_one(dataset: Dataset, progress: ListProgress, method: str) -> None:
    """Many equal items fill their group, so that some take other codes."""
    config = CONFIGS[method]
    for name in ("once", "twice"):
        build_sids(dataset, config, progress, name=name)
    new = np.concatenate([NEW, np.repeat(OLD[7:8], 20, axis=0), NEW + 0.1])
    grow(dataset, new[:13])
    extend_sids(dataset, "twice", progress)
    grow(dataset, new)
    for name in ("once", "twice"):
        extend_sids(dataset, name, progress)
    sids = read_sids(dataset.sids("once"))
    np.testing.assert_array_equal(sids, read_sids(dataset.sids("twice")))
    assert len(np.unique(sids, axis=0)) == 60 + len(new)


def test_a_full_group_sends_to_the_nearest_other_code_of_the_last_digit(
    dataset: Dataset, progress: ListProgress
) -> None:
    """Codes are 0 and 10 in the first digit, and −1 and 1 in the second, in one dimension."""
    values = np.repeat([[-1.0], [1.0], [9.0], [11.0]], 15, axis=0).astype(np.float32)
    embed(dataset, values)
    path = build_sids(dataset, TokenizeConfig(2, 16), progress)
    old = read_sids(path)
    table = artifacts.read(dataset.items, "items").to_pydict()
    new = np.array([[-1.0], [-1.0], [-1.0]], np.float32)
    table = {
        "item": pa.array(range(63), pa.int32()),
        "item_id": [*table["item_id"], "a", "b", "c"],
        "text": [*table["text"], "", "", ""],
    }
    artifacts.write(dataset.items, "items", pa.table(table), config={})
    embed(dataset, np.concatenate([values, new]))
    extend_sids(dataset, path.stem, progress)
    sids = read_sids(path)
    assert sids[60].tolist() == [*old[0, :2], 15]
    assert (sids[61:, 0] == old[0, 0]).all() and (sids[61:, 1] != old[0, 1]).all()
    assert sids[62, :2].tolist() == sids[61, :2].tolist()
    assert sids[61:, 2].tolist() == [sids[61, 2], sids[61, 2] + 1]


REFUSED = {
    "old embeddings": (lambda d: embed(d, OLD), "has 60 rows but .* has 64 items"),
    "moved vectors": (
        lambda d: embed(d, np.concatenate([OLD + 1, NEW])),
        "other vectors of old items than the semantic IDs had. Run `maskgr tokenize --force --name lsa-2x8`",
    ),
    "no codebooks": (
        lambda d: d.codebooks("lsa-2x8").unlink(),
        "codebooks.parquet is missing or not the code",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_extended_stays_and_is_said(
    dataset: Dataset, progress: ListProgress, case: str
) -> None:
    path = build_sids(dataset, CONFIGS["kmeans"], progress)
    before = path.read_bytes()
    grow(dataset, NEW)
    spoil, message = REFUSED[case]
    spoil(dataset)
    with pytest.raises(UserError, match=message):
        extend_sids(dataset, path.stem, progress)
    assert path.read_bytes() == before


def test_random_ids_fill_every_place_and_then_end(dataset: Dataset, progress: ListProgress) -> None:
    path = build_sids(dataset, TokenizeConfig(1, 8, "random"), progress)
    grow(dataset, NEW)
    extend_sids(dataset, path.stem, progress)
    assert len(np.unique(read_sids(path), axis=0)) == 64 == 8**2
    grow(dataset, np.concatenate([NEW, NEW]))
    with pytest.raises(UserError, match="64 random SIDs of 2 digits are fewer than the 68 items"):
        extend_sids(dataset, path.stem, progress)
