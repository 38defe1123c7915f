"""A grown data set: everything is extended together, nothing old moves, and a fault changes nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.grow.grow import add_items, grow
from pipelines.inventory import overview
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress

NEW = "item_id,text_given\nnew-1,group 3 number 31\nnew-2,group 5 number 7\nnew-3,\n"


def rows(dataset: Dataset) -> dict[str, np.ndarray]:
    """Return the content of all embeddings and semantic IDs of a data set, by path."""
    found = {}
    for kind, column, paths in (
        ("embeddings", "embedding", dataset.all_embeddings),
        ("sids", "sid", dataset.all_sids),
    ):
        for path in paths:
            found[f"{kind}/{path.stem}"] = artifacts.matrix(artifacts.read(path, kind), column, path)
    return found


@pytest.fixture
def dataset(toy: Workspace, progress: ListProgress) -> Dataset:
    """Return a data set with two embeddings and semantic IDs of three kinds."""
    data = toy.dataset("toy")
    table = artifacts.read(data.items, "items")
    items = table.append_column("text_given", table["text"])
    artifacts.write(data.items, "items", items, config={"item_column": None})
    inputs = {"interactions": data.interactions, "items": data.items}
    sequences = artifacts.read(data.sequences, "sequences")
    artifacts.write(data.sequences, "sequences", sequences, config={}, inputs=inputs)
    build_embeddings(data, EmbedConfig(dimensions=6), progress)
    build_embeddings(data, EmbedConfig(encoder="interactions", dimensions=6), progress)
    build_sids(data, TokenizeConfig(2, 16), progress, embedding="lsa")
    build_sids(data, TokenizeConfig(2, 16), progress, embedding="interactions")
    build_sids(data, TokenizeConfig(2, 16, "random"), progress, embedding="lsa")
    return data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "new.csv").write_text(NEW)
    return tmp_path / "new.csv"


def test_all_grow_together_and_nothing_old_moves(
    toy: Workspace, dataset: Dataset, file: Path, progress: ListProgress
) -> None:
    before, items = rows(dataset), artifacts.read(dataset.items, "items")
    sequences, digest = dataset.sequences.read_bytes(), artifacts.digest(dataset.sequences)
    newest = dataset.require_embeddings()
    growth = add_items(toy, None, file, progress)
    assert growth.items == 3 and not growth.left and len(growth.extended) == 5
    after, grown = rows(dataset), artifacts.read(dataset.items, "items")
    for name, old in before.items():
        assert len(after[name]) == 63
        assert after[name][:60].tobytes() == old.tobytes()
    assert grown.slice(0, 60).equals(items)
    assert after["embeddings/lsa"][60].tobytes() == before["embeddings/lsa"][31].tobytes()
    np.testing.assert_array_equal(after["sids/lsa-2x16"][60, :2], before["sids/lsa-2x16"][31, :2])
    assert artifacts.digest(dataset.sequences) == digest and dataset.sequences.read_bytes() != sequences
    assert dataset.require_embeddings() == newest
    view = overview(toy).datasets[0]
    assert [view.stale, *(e.stale for e in view.embeddings), *(s.stale for s in view.sids)] == [None] * 6
    config = artifacts.provenance(dataset.items)["config"]
    assert [(a["file"], a["items"]) for a in config["added"]] == [("new.csv", 3)]
    build_embeddings(dataset, EmbedConfig(dimensions=6), progress)
    assert "up to date" in progress.messages[-1]
    assert not list(dataset.path.rglob(".*"))
    assert add_items(toy, "toy", file, progress).items == 0
    assert progress.messages[-1] == f"{file} has no new items for toy."


def test_growing_twice_equals_growing_once(
    toy: Workspace, dataset: Dataset, file: Path, tmp_path: Path, progress: ListProgress
) -> None:
    import shutil

    shutil.copytree(dataset.path, dataset.path.with_name("twin"))
    add_items(toy, "toy", file, progress)
    lines = NEW.splitlines()
    for part in (lines[1:2], lines[2:]):
        piece = tmp_path / "part.csv"
        piece.write_text("\n".join([lines[0], *part]))
        add_items(toy, "twin", piece, progress)
    once, twice = rows(dataset), rows(toy.dataset("twin"))
    for name in once:
        assert once[name].tobytes() == twice[name].tobytes(), name


def test_what_cannot_grow_is_said_and_the_rest_grows(
    toy: Workspace, dataset: Dataset, file: Path, progress: ListProgress
) -> None:
    dataset.encoder("lsa").unlink()
    growth = add_items(toy, "toy", file, progress)
    assert growth.extended == ["embeddings interactions", "semantic IDs interactions-2x16"]
    assert set(growth.left) == {"embeddings lsa", "semantic IDs lsa-2x16", "semantic IDs lsa-2x16-random"}
    assert "Run `maskgr embed --encoder lsa --force --name lsa`" in growth.left["embeddings lsa"]
    assert any(m.startswith("Not extended: embeddings lsa. ") for m in progress.messages)
    assert len(rows(dataset)["embeddings/lsa"]) == 60


def test_a_fault_changes_nothing(
    toy: Workspace, dataset: Dataset, file: Path, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {path: path.read_bytes() for path in dataset.path.rglob("*.parquet")}
    write = artifacts.write

    def full(path: Path, kind: str, *arguments: object, **options: object) -> Path:
        if kind == "quality":
            raise OSError(28, "No space left on device")
        return write(path, kind, *arguments, **options)

    monkeypatch.setattr(artifacts, "write", full)
    with pytest.raises(UserError, match="No space left on device"):
        add_items(toy, "toy", file, progress)
    assert {path: path.read_bytes() for path in dataset.path.rglob("*") if path.is_file()} == contents
    assert sorted(path.name for path in dataset.path.parent.iterdir()) == ["toy"]


def test_a_catalogue_that_an_import_has_grown(dataset: Dataset, progress: ListProgress) -> None:
    """New items have interactions now; embeddings of interactions keep the vectors of old items."""
    before = rows(dataset)
    table = artifacts.read(dataset.items, "items").to_pydict()
    new = {"item": 60, "item_id": "new", "text": "group 3 number 31", "text_given": "group 3 number 31"}
    schema = {"item": pa.int32()}
    items = {name: pa.array([*values, new[name]], schema.get(name)) for name, values in table.items()}
    artifacts.write(dataset.items, "items", pa.table(items), config={})
    sequences = artifacts.read(dataset.sequences, "sequences").to_pydict()
    users = [[60, *items] for items in sequences["items"]]
    table = {
        "user": pa.array(sequences["user"], pa.int32()),
        "user_id": sequences["user_id"],
        "items": pa.array(users, pa.list_(pa.int32())),
    }
    inputs = {"items": dataset.items}
    artifacts.write(dataset.sequences, "sequences", pa.table(table), config={}, inputs=inputs)
    growth = grow(dataset, progress)
    assert growth.items == 1 and len(growth.extended) == 5 and not growth.left
    after = rows(dataset)
    for name, old in before.items():
        assert len(after[name]) == 61 and after[name][:60].tobytes() == old.tobytes()
    assert all(artifacts.stale(path) is None for path in (*dataset.all_embeddings, *dataset.all_sids))


def test_the_command(
    dataset: Dataset, file: Path, maskgr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = maskgr("items", "add", file)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Added 3 items to toy, which now has 63" in done.stderr
