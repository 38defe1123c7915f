"""Embeddings of other programs: every form of file, matching by id, and what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.embed.extend import extend_embeddings
from pipelines.errors import UserError
from pipelines.workspace import Dataset
from tests.conftest import ListProgress
from tests.embed.conftest import TEXTS, write_items
from tests.embed.test_lsa import read

VALUES = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
IDS = [f"item-{i}" for i in range(30)]
ORDER = np.random.default_rng(1).permutation(30)


def list_column(path: Path, ids: list[str], values: np.ndarray) -> None:
    pq.write_table(
        pa.table({"asin": ids, "vector": list(values.astype(np.float64)), "price": values[:, 0]}), path
    )


def wide(path: Path, ids: list[str], values: np.ndarray) -> None:
    columns = {f"d{i}": column for i, column in enumerate(values.T)}
    pq.write_table(pa.table({"item_id": ids, **columns}), path)


def csv(path: Path, ids: list[str], values: np.ndarray) -> None:
    rows = [",".join([key, *map(repr, map(float, row))]) for key, row in zip(ids, values, strict=True)]
    path.write_text("\n".join(["item_id,a,b,c,d", *rows]))


def json_lines(path: Path, ids: list[str], values: np.ndarray) -> None:
    lines = [{"id": key, "emb": row.tolist()} for key, row in zip(ids, values, strict=True)]
    path.write_text("\n".join(map(json.dumps, lines)))


def npz(path: Path, ids: list[str], values: np.ndarray) -> None:
    np.savez(path, ids=np.array(ids), vectors=values)


FORMS = {
    "list.parquet": list_column,
    "wide.parquet": wide,
    "wide.csv": csv,
    "lines.jsonl": json_lines,
    "both.npz": npz,
}


@pytest.mark.parametrize("name", FORMS)
def test_vectors_are_matched_by_id(
    dataset: Dataset, progress: ListProgress, tmp_path: Path, name: str
) -> None:
    """The file has the items in another order, and one that is no item."""
    FORMS[name](
        tmp_path / name, ["strange", *(IDS[i] for i in ORDER)], np.vstack([VALUES[:1] * 9, VALUES[ORDER]])
    )
    config = EmbedConfig(source=str(tmp_path / name))
    path = build_embeddings(dataset, config, progress)
    assert path.stem == Path(name).stem
    np.testing.assert_array_equal(read(dataset, path.stem), VALUES)
    assert f"1 of 31 ids of {tmp_path / name} are no items, e.g. strange: left out." in progress.messages
    build_embeddings(dataset, config, progress)
    assert "up to date" in progress.messages[-1]
    FORMS[name](tmp_path / name, IDS, VALUES + 1)
    build_embeddings(dataset, config, progress)
    assert f"Making embeddings {path.stem} of toy again: its vectors changed." in progress.messages
    np.testing.assert_array_equal(read(dataset, path.stem), VALUES + 1)


@pytest.mark.parametrize("form", ["none", "txt", "npy", "csv"])
def test_rows_of_npy_are_named_by_ids_or_are_the_items(
    dataset: Dataset, progress: ListProgress, tmp_path: Path, form: str
) -> None:
    ids = [IDS[i] for i in ORDER]
    np.save(tmp_path / "v.npy", VALUES if form == "none" else VALUES[ORDER].astype(np.float64))
    file = tmp_path / f"ids.{form}"
    if form == "txt":
        file.write_text("\n".join(ids))
    elif form == "npy":
        np.save(file, np.array(ids))
    elif form == "csv":
        file.write_text("\n".join(["item_id", *ids]))
    given = {} if form == "none" else {"ids": str(file)}
    config = EmbedConfig(
        source=str(tmp_path / "v.npy"), name="mine", normalize=True, dtype="float16", **given
    )
    build_embeddings(dataset, config, progress)
    unit = VALUES / np.linalg.norm(VALUES, axis=1, keepdims=True)
    np.testing.assert_array_equal(read(dataset, "mine"), unit.astype(np.float16))
    assert any("row r of" in message for message in progress.messages) == (form == "none")


def test_items_without_a_vector_take_their_place(
    dataset: Dataset, progress: ListProgress, tmp_path: Path
) -> None:
    list_column(tmp_path / "v.parquet", IDS[:20], VALUES[:20])
    build_embeddings(dataset, EmbedConfig(source=str(tmp_path / "v.parquet")), progress)
    assert read(dataset, "v")[20:].any(axis=1).all()
    assert any(
        message.startswith("10 of 30 items have no vector of their own") for message in progress.messages
    )
    write_items(dataset, [*TEXTS, "new"])
    with pytest.raises(UserError, match="came from a file .*maskgr embed --from FILE --name v"):
        extend_embeddings(dataset, "v", progress)


def changed(**columns: Any) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table({"item_id": IDS, **columns}), path)


def spoiled() -> np.ndarray:
    values = VALUES.astype(np.float64).copy()
    values[17, 2] = 1e60
    return values


REFUSED = {
    "not finite": (changed(v=list(spoiled())), "the vector of item item-17 holds NaN, infinite or huge"),
    "missing value": (changed(a=[1.0] * 29 + [None], b=[1.0] * 30), "the vector of item item-29 holds NaN"),
    "lengths": (changed(v=[[1.0, 2.0]] * 29 + [[1.0]]), "lists of column v have 1 to 2 numbers"),
    "no numbers": (changed(title=["x"] * 30), "needs one column of lists of numbers, .*it has title"),
    "two lists": (changed(a=[[1.0]] * 30, b=[[2.0]] * 30), "called embedding if there are several"),
    "other ids": (
        lambda path: list_column(path, [f"x{i}" for i in range(30)], VALUES),
        "none of its 30 ids is an item of the data set. It has 'x0', 'x1', 'x2'; the data set has 'item-0'",
    ),
    "too few": (
        lambda path: list_column(path, IDS[:14], VALUES[:14]),
        "no vector of 16 of the 30 items; .*50%",
    ),
    "an id twice": (
        lambda path: list_column(path, [*IDS[:29], IDS[0]], VALUES),
        "'item-0' occurs several times",
    ),
    "no ids": (lambda path: pq.write_table(pa.table({"v": list(VALUES)}), path), "no column of item ids"),
    "not there": (lambda path: None, "--from .* does not exist or is not a file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_tables(dataset: Dataset, progress: ListProgress, tmp_path: Path, case: str) -> None:
    write, message = REFUSED[case]
    write(tmp_path / "v.parquet")
    with pytest.raises(UserError, match=message):
        build_embeddings(dataset, EmbedConfig(source=str(tmp_path / "v.parquet")), progress)
    assert not dataset.all_embeddings


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (VALUES[0], "holds float32 of shape .4.; expected numbers .rows, dimensions."),
        (np.array([["a"] * 4] * 30), "expected numbers"),
        (VALUES[:29], "has 29 rows and the data set 30 items. Say with --ids FILE"),
        (np.array([[None]] * 30, object), "is not a readable NumPy file"),
    ],
)
def test_refused_arrays(
    dataset: Dataset, progress: ListProgress, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(UserError, match=message):
        build_embeddings(dataset, EmbedConfig(source=str(tmp_path / "v.npy")), progress)


def test_refused_ids_and_archives(dataset: Dataset, progress: ListProgress, tmp_path: Path) -> None:
    def refused(match: str, source: str, **settings: str) -> None:
        with pytest.raises(UserError, match=match):
            build_embeddings(dataset, EmbedConfig(source=str(tmp_path / source), **settings), progress)

    np.save(tmp_path / "v.npy", VALUES)
    np.save(tmp_path / "floats.npy", VALUES[:, 0])
    (tmp_path / "few.txt").write_text("item-0\n")
    refused("few.txt has 1 ids for the 30 rows", "v.npy", ids=str(tmp_path / "few.txt"))
    refused("floats.npy holds float32 .*expected a list of ids", "v.npy", ids=str(tmp_path / "floats.npy"))
    refused("--ids .*nothing.txt does not exist", "v.npy", ids=str(tmp_path / "nothing.txt"))
    np.savez(tmp_path / "v.npz", vectors=VALUES)
    refused(r"holds vectors \[30, 4\]; expected ids \[rows\] and vectors", "v.npz")
    list_column(tmp_path / "v.parquet", IDS, VALUES)
    refused(
        "--ids .* has no effect on .*v.parquet, which holds the ids itself",
        "v.parquet",
        ids=str(tmp_path / "few.txt"),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "v.npy", "encoder": "lsa"}, "--from and --encoder exclude each other"),
        ({"source": "v.npy", "dimensions": 8}, "--dimensions means nothing to --from"),
        ({"ids": "i.txt"}, "--ids means nothing to --encoder lsa"),
        (
            {"encoder": "interactions", "max_length": 8},
            "--max-length means nothing to --encoder interactions",
        ),
        ({"name": "a.encoder"}, "cannot be named 'a.encoder'"),
    ],
)
def test_options_that_exclude_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EmbedConfig(**settings)


def test_the_command(
    dataset: Dataset, tmp_path: Path, maskgr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    npz(tmp_path / "theirs.npz", IDS, VALUES)
    done = maskgr("embed", "--from", tmp_path / "theirs.npz", "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert "Embedded 30 items of toy with theirs.npz: 4 dimensions, float32" in done.stderr
    assert set(artifacts.provenance(dataset.embeddings("mine"))["inputs"]) == {"items", "vectors"}
