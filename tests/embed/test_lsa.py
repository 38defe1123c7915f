"""LSA: what it finds, how wide it is, and that it is the same every time."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from pipelines import artifacts
from pipelines.embed import lsa
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.workspace import Dataset
from tests.conftest import ListProgress
from tests.embed.conftest import TEXTS, write_items


def read(dataset: Dataset, name: str = "lsa") -> np.ndarray:
    path = dataset.embeddings(name)
    return artifacts.matrix(artifacts.read(path, "embeddings"), "embedding", path)


def test_texts_about_the_same_thing_are_nearest(dataset: Dataset, progress: ListProgress) -> None:
    kinds = {
        "shampoo": ["for dry hair", "for oily hair", "with argan oil"],
        "lipstick": ["matte red", "glossy red", "matte pink"],
    }
    write_items(dataset, [f"{kind} {rest}" for kind, rests in kinds.items() for rest in rests])
    build_embeddings(dataset, EmbedConfig(dimensions=4), progress)
    values = read(dataset)
    assert values.dtype == np.float32
    assert values.shape == (6, 4)
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=1e-5)
    near = values @ values.T
    assert near[:3, :3].min() > near[:3, 3:].max()
    assert near[3:, 3:].min() > near[3:, :3].max()


def test_full_width_keeps_all_inner_products(progress: ListProgress) -> None:
    """With as many dimensions as texts the SVD loses nothing: U Σ has the Gram matrix of the TF-IDF rows,
    whose diagonal is 1.
    """
    texts = ["red soap", "red soap", "blue soap", "oil"]
    _, values = lsa.fit(texts, 4, 0, progress)
    expected_dot = values[0] @ values[2]
    np.testing.assert_allclose(
        values @ values.T,
        [[1, 1, expected_dot, 0], [1, 1, expected_dot, 0], [expected_dot] * 2 + [1, 0], [0, 0, 0, 1]],
        atol=1e-5,
    )
    # Smoothed idf = ln((1 + n) / (1 + df)) + 1 with n = 4; terms red, soap, "red soap" against blue, soap,
    # "blue soap".
    idf = {df: np.log(5 / (1 + df)) + 1 for df in (1, 2, 3)}
    red, blue = np.hypot(np.hypot(idf[2], idf[3]), idf[2]), np.hypot(np.hypot(idf[1], idf[3]), idf[1])
    assert expected_dot == pytest.approx(idf[3] ** 2 / (red * blue), rel=1e-5)


def test_width_is_capped_and_said(dataset: Dataset, progress: ListProgress) -> None:
    write_items(dataset, ["red soap", "blue soap", "red brush"])
    build_embeddings(dataset, EmbedConfig(), progress)
    assert read(dataset).shape == (3, 3)
    assert any("3 dimensions instead of 128; 3 texts" in message for message in progress.messages)


def test_same_seed_same_embeddings(dataset: Dataset, progress: ListProgress) -> None:
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        build_embeddings(dataset, EmbedConfig(name=name, seed=seed, dimensions=5), progress)
    assert artifacts.digest(dataset.embeddings("one")) == artifacts.digest(dataset.embeddings("two"))
    assert artifacts.provenance(dataset.embeddings("other"))["config"]["seed"] == 2


@pytest.mark.parametrize("texts", [TEXTS, ["a", "a"], ["蓝桌子 red soap", "blue soap", "大杯子蓝"]])
def test_an_encoder_gives_its_own_texts_the_same_vectors_to_the_last_bit(
    tmp_path: Path, progress: ListProgress, texts: list[str]
) -> None:
    encoder, vectors = lsa.fit(texts, 5, 0, progress)
    path = artifacts.write(
        tmp_path / "lsa.encoder.parquet", "encoder", encoder.table(), config={"terms": encoder.kind}
    )
    stored = lsa.Encoder.read(path)
    assert stored.encode(texts).tobytes() == vectors.tobytes()
    assert stored.encode(texts[1:2]).tobytes() == vectors[1:2].tobytes()
    assert not stored.encode(["quite unknown"]).any()


def test_an_encoder_of_other_columns_is_refused(tmp_path: Path, progress: ListProgress) -> None:
    encoder, _ = lsa.fit(TEXTS, 5, 0, progress)
    path = artifacts.write(tmp_path / "x.encoder.parquet", "encoder", encoder.table(), config={"terms": "x"})
    with pytest.raises(UserError, match="x.encoder.parquet does not say which terms .*maskgr embed --force"):
        lsa.Encoder.read(path)


@pytest.mark.parametrize("texts", [["soap"] * 5, ["red soap"] * 5, ["red soap"] * 4 + ["red soap!"]])
def test_equal_texts_have_equal_vectors_and_no_library_warns(
    dataset: Dataset, progress: ListProgress, texts: list[str]
) -> None:
    write_items(dataset, texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    assert len(np.unique(read(dataset), axis=0)) == 1


@pytest.mark.parametrize("texts", [["", "  "], ["***", "!!"]])
def test_no_text_at_all(dataset: Dataset, progress: ListProgress, texts: list[str]) -> None:
    write_items(dataset, texts)
    with pytest.raises(UserError, match="maskgr import .*--text-columns"):
        build_embeddings(dataset, EmbedConfig(), progress)
    assert not dataset.embeddings("lsa").exists()


def test_texts_outside_the_sample_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lsa, "BLOCK", 7)
    progress = ListProgress()
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 20, 6)) for _ in range(60)]
    encoder, vectors = lsa.embed(texts, 4, 3, 40, progress)
    assert any("fitted on 40 of 60 texts, drawn with seed 3" in line for line in progress.messages)
    assert (vectors == np.concatenate([encoder.encode([text]) for text in texts])).all()
    again, _ = lsa.embed(texts, 4, 3, 40, progress)
    assert (again.projection == encoder.projection).all()
    whole = [lsa.embed(texts, 4, 3, largest, progress)[1] for largest in (60, 1000)]
    assert (whole[0] == lsa.fit(texts, 4, 3, progress)[1]).all() and (whole[0] == whole[1]).all()
