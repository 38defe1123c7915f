"""Codebooks from a sample of the items: which items, codes of the others, what is said and recorded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.tokenize import embeddings
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.codebooks import Codebooks
from pipelines.tokenize.config import TokenizeConfig, default_name
from pipelines.tokenize.embeddings import sample, stored_embeddings
from pipelines.tokenize.quantization import assign, group_equal
from pipelines.workspace import Dataset
from tests.conftest import ListProgress
from tests.tokenize.test_build import dataset, embed, grouped, read_sids

__all__ = ["dataset"]  # a fixture


def test_a_sample_is_drawn_by_its_seed() -> None:
    assert sample(5, None, 0).tolist() == sample(5, 5, 0).tolist() == [0, 1, 2, 3, 4]
    draws = [sample(1000, 50, seed) for seed in (0, 0, 1)]
    assert all(len({*draw}) == 50 and (np.diff(draw) > 0).all() for draw in draws)
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()


@pytest.mark.parametrize("method", ["kmeans", "pq", "opq", "rqvae"])
def test_all_items_get_the_codes_of_the_codebooks(
    dataset: Dataset, progress: ListProgress, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "ROWS", 7)
    steps = {"steps": 20} if method == "rqvae" else {}
    config = TokenizeConfig(3, 8, method, sample=40, **steps)
    path = build_sids(dataset, config, progress)
    sids = read_sids(path)
    assert path.stem == default_name("lsa", config) and "sample40" in path.stem
    assert len(np.unique(sids, axis=0)) == 60
    provenance = artifacts.provenance(path)
    assert provenance is not None and provenance["config"]["sample"] == 40
    assert any("learned from 40 of 60 items, drawn with seed 0" in line for line in progress.messages)
    vectors = stored_embeddings(
        dataset, dataset.embeddings("lsa"), artifacts.read(dataset.items, "items")
    ).of(np.arange(60))
    books = Codebooks.read(dataset.codebooks(path.stem), False)
    assert (sids[:, :3] == books.quantize(vectors)).mean() > 0.99  # apart from rounding
    again = build_sids(dataset, config, progress, force=True)
    assert (read_sids(again) == sids).all()
    build_sids(dataset, config, progress)
    assert "up to date" in progress.messages[-1]


def test_a_sample_of_all_items_changes_nothing(dataset: Dataset, progress: ListProgress) -> None:
    whole = build_sids(dataset, TokenizeConfig(3, 8), progress, name="whole")
    given = build_sids(dataset, TokenizeConfig(3, 8, sample=60), progress, name="given")
    assert artifacts.digest(whole) == artifacts.digest(given)
    assert "sample" not in (artifacts.provenance(given) or {})["config"]


@pytest.mark.parametrize("unit", [False, True])
def test_fast_assignment_is_that_of_the_codebooks(unit: bool) -> None:
    rng = np.random.default_rng(0)
    books = Codebooks([rng.normal(size=(5, 6)).astype(np.float32) for _ in range(3)], [], unit)
    vectors = rng.normal(size=(200, 6)).astype(np.float32)
    assert (assign(books, vectors) == books.quantize(vectors)).all()


@pytest.mark.parametrize("largest", [3, 2**15, 2**31])
def test_equal_codes_are_found_whatever_their_number(largest: int) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, largest, (500, 6))
    codes[rng.integers(0, 500, 300)] = codes[rng.integers(0, 500, 300)]
    group, rank = group_equal(codes)
    expected = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    assert (group == expected).all()
    assert rank.tolist() == [int((expected[:n] == expected[n]).sum()) for n in range(500)]


def test_embeddings_of_some_items_are_read_in_blocks(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = grouped()
    path = embed(dataset, vectors)
    monkeypatch.setattr(embeddings, "ROWS", 11)
    stored = stored_embeddings(dataset, path, artifacts.read(dataset.items, "items"))
    assert [start for start, _ in stored.blocks()] == [0, 11, 22, 33, 44, 55]
    for rows in ([], [0], [5, 10, 11, 59], range(60)):
        assert (stored.of(np.array(rows, np.int64)) == vectors[list(rows)]).all()


def test_equal_items_of_a_sample_are_reported(dataset: Dataset, progress: ListProgress) -> None:
    embed(dataset, np.ones((60, 4), np.float32))
    build_sids(dataset, TokenizeConfig(2, 4, sample=50), progress)
    assert any("Their embeddings are equal" in line for line in progress.messages)
    assert pa.types.is_fixed_size_list(
        artifacts.read(dataset.sids(default_name("lsa", TokenizeConfig(2, 4, sample=50))), "sids")
        .schema.field("sid")
        .type
    )
