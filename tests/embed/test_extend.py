"""Embeddings of new items: old vectors stay, new ones come from the encoder as it was fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.embed.extend import extend_embeddings
from pipelines.errors import UserError
from pipelines.workspace import Dataset
from tests.conftest import ListProgress
from tests.embed.conftest import TEXTS, write_items, write_sequences
from tests.embed.test_lsa import read

NEW = [TEXTS[4], "soap of gold", "", TEXTS[9]]


def grow(dataset: Dataset, new: list[str], old: list[str] = TEXTS) -> None:
    """Append items with these texts, and leave the sequences as they are."""
    users = artifacts.read(dataset.sequences, "sequences")["items"].to_pylist()
    write_items(dataset, [*old, *new])
    write_sequences(dataset, users)


@pytest.mark.parametrize("settings", [{}, {"dtype": "float16", "normalize": False, "dimensions": 5}])
def test_old_vectors_stay_and_an_old_text_gets_the_old_vector(
    dataset: Dataset, progress: ListProgress, settings: dict[str, object]
) -> None:
    config = EmbedConfig(**settings)
    old = read(dataset, build_embeddings(dataset, config, progress).stem)
    encoder = dataset.encoder("lsa").read_bytes()
    grow(dataset, NEW)
    assert extend_embeddings(dataset, "lsa", progress) == dataset.embeddings("lsa")
    values = read(dataset)
    assert values.dtype == old.dtype
    assert values[:30].tobytes() == old.tobytes()
    assert values[30].tobytes() == old[4].tobytes() and values[33].tobytes() == old[9].tobytes()
    mean = old.astype(np.float32).mean(0)
    if config.normalize:
        mean /= np.linalg.norm(mean)
    np.testing.assert_allclose(values[32], mean, rtol=1e-2 if config.dtype == "float16" else 1e-5, atol=1e-6)
    assert dataset.encoder("lsa").read_bytes() == encoder
    build_embeddings(dataset, config, progress)
    assert "up to date" in progress.messages[-1]
    build_embeddings(dataset, config, progress, force=True)
    assert read(dataset)[:30].tobytes() != old.tobytes()


def test_two_extensions_equal_one(dataset: Dataset, progress: ListProgress) -> None:
    for name in ("once", "twice"):
        build_embeddings(dataset, EmbedConfig(name=name, dimensions=6), progress)
    grow(dataset, NEW[:2])
    extend_embeddings(dataset, "twice", progress)
    grow(dataset, NEW)
    for name in ("once", "twice"):
        extend_embeddings(dataset, name, progress)
    assert artifacts.digest(dataset.embeddings("once")) == artifacts.digest(dataset.embeddings("twice"))


def test_a_transformer_is_the_same_encoder(dataset: Dataset, bert: Path, progress: ListProgress) -> None:
    build_embeddings(dataset, EmbedConfig(encoder=str(bert)), progress)
    old = read(dataset, "tiny-bert")
    grow(dataset, NEW)
    extend_embeddings(dataset, "tiny-bert", progress)
    values = read(dataset, "tiny-bert")
    assert values[:30].tobytes() == old.tobytes()
    np.testing.assert_allclose(values[[30, 33]], old[[4, 9]], rtol=1e-4, atol=1e-5)


def test_new_items_of_interactions_take_the_place_of_those_near_them(
    dataset: Dataset, progress: ListProgress
) -> None:
    build_embeddings(dataset, EmbedConfig(encoder="interactions", dimensions=6), progress)
    old = read(dataset, "interactions")
    write_items(dataset, [*TEXTS, "new"])
    write_sequences(dataset, [[3, 30, 5, 1, 2]] + [[i % 30, (i + 1) % 30, 0, 1, 2] for i in range(30)])
    extend_embeddings(dataset, "interactions", progress)
    values = read(dataset, "interactions")
    assert values[:30].tobytes() == old.tobytes()
    np.testing.assert_allclose(values[30], (old[3] + old[5]) / np.linalg.norm(old[3] + old[5]), rtol=1e-4)


def test_the_newest_embeddings_stay_the_newest(dataset: Dataset, progress: ListProgress) -> None:
    for name in ("b", "a"):
        build_embeddings(dataset, EmbedConfig(name=name, dimensions=3), progress)
    grow(dataset, NEW)
    for name in ("a", "b"):
        extend_embeddings(dataset, name, progress)
    assert dataset.require_embeddings().stem == "a"


def test_changed_texts_of_old_items_are_said(dataset: Dataset, progress: ListProgress) -> None:
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    old = read(dataset)
    grow(dataset, ["soap"], ["other words", *TEXTS[1:]])
    extend_embeddings(dataset, "lsa", progress)
    assert any(message.startswith("Texts of old items changed; lsa") for message in progress.messages)
    assert read(dataset)[:30].tobytes() == old.tobytes()


def rename_first(dataset: Dataset) -> None:
    table = artifacts.read(dataset.items, "items")
    ids = pa.array(["other", *table["item_id"].to_pylist()[1:]])
    artifacts.write(dataset.items, "items", table.set_column(1, "item_id", ids), config={})


def forget_items(dataset: Dataset) -> None:
    path = dataset.embeddings("lsa")
    artifacts.write(path, "embeddings", artifacts.read(path, "embeddings"), config={"encoder": "lsa"})


REFUSED = {
    "other items": (rename_first, "made from other items .*maskgr embed --force --name lsa"),
    "unknown items": (forget_items, "does not say from which items .*maskgr embed --force"),
    "no encoder": (lambda d: d.encoder("lsa").unlink(), "lsa.encoder.parquet is missing or not the encoder"),
    "fewer items": (lambda d: write_items(d, TEXTS[:5]), "made from other items"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_extended_stays_and_is_said(
    dataset: Dataset, progress: ListProgress, case: str
) -> None:
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    grow(dataset, NEW)
    spoil, message = REFUSED[case]
    spoil(dataset)
    before = dataset.embeddings("lsa").read_bytes()
    with pytest.raises(UserError, match=message):
        extend_embeddings(dataset, "lsa", progress)
    assert dataset.embeddings("lsa").read_bytes() == before
