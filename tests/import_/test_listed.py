"""Sequences of other programs: a folder of Parquet files becomes a data set without a copy."""

from __future__ import annotations

import os
import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.decode.config import Decoding
from pipelines.doctor.mend import dataset_command
from pipelines.download.statistics import statistics
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.export.content import read_content
from pipelines.housekeeping.forget import rows_of_users
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.import_.listed import import_sequences
from pipelines.inventory import overview
from pipelines.recommend.everyone import recommend_to_everyone
from pipelines.recommend.load import load
from pipelines.train.run import train_run
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ROOT, ListProgress
from tests.train.test_leakage import plan_of

USERS, ITEMS, LENGTH = 60, 30, 6
LISTS = {
    f"u{user:02}": [str(100 + (user + place) % ITEMS) for place in range(LENGTH)] for user in range(USERS)
}
SPARK = "part-0000{}-0f3c2a.c000.snappy.parquet"


def write_folder(folder: Path, kind: pa.DataType, partitions: bool = False) -> Path:
    """Three files as Spark leaves them, with and without partitions, in row groups of seven users."""
    for part in range(3):
        users = list(LISTS)[part::3]
        below = folder / f"bucket={part}" if partitions else folder
        below.mkdir(parents=True, exist_ok=True)
        values = [[int(i) if pa.types.is_integer(kind) else i for i in LISTS[user]] for user in users]
        table = pa.table(
            {"user_id": users, "other": [1] * len(users), "item_ids": pa.array(values, pa.list_(kind))}
        )
        pq.write_table(table, below / SPARK.format(part), compression="snappy", row_group_size=7)
        (below / f".{SPARK.format(part)}.crc").write_bytes(b"crc")
    (folder / "_SUCCESS").touch()
    return folder


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text("item_id,title\n" + "".join(f"{100 + i},Thing {i}\n" for i in reversed(range(ITEMS))))
    return path


@pytest.fixture
def take(workspace: Workspace, items: Path, progress: ListProgress) -> Callable[..., Dataset]:
    def take(folder: Path, **settings: object) -> Dataset:
        config = ImportConfig(**settings)
        return import_sequences(workspace, "lake", config, progress, sequences=folder, items=[items])

    return take


def sequences(dataset: Dataset) -> dict[str, list[str]]:
    """Items of each user, by ids, as the data set holds them."""
    found, names = (
        load_sequences(dataset.sequences),
        artifacts.read(dataset.items, "items")["item_id"].to_pylist(),
    )
    table = artifacts.read(dataset.sequences, "sequence_files")
    folder = Path(artifacts.provenance(dataset.sequences)["config"]["folder"])
    users = [u for file in table["file"].to_pylist() for u in pq.read_table(
        folder / file, columns=["user_id"], partitioning=None
    )["user_id"].to_pylist()]  # fmt: skip
    lists = [found.items[a:b] for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    return {user: [names[item] for item in row] for user, row in zip(users, lists, strict=True)}


@pytest.mark.parametrize("partitions", [False, True])
@pytest.mark.parametrize("kind", [pa.int64(), pa.string()])
def test_a_folder_is_taken_as_it_is(
    tmp_path: Path, take: Callable[..., Dataset], kind: pa.DataType, partitions: bool, workspace: Workspace
) -> None:
    folder = write_folder(tmp_path / "folder", kind, partitions)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    dataset = take(folder)
    assert sequences(dataset) == LISTS
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    texts = artifacts.read(dataset.items, "items")
    assert texts["text"].to_pylist()[:2] == ["Thing 29", "Thing 28"]
    assert sorted(path.name for path in dataset.path.iterdir()) == ["items.parquet", "sequences.parquet"]
    found = statistics(dataset)
    assert (found.users, found.items, found.interactions) == (USERS, ITEMS, USERS * LENGTH)
    view = overview(workspace).datasets[0]
    assert (view.users, view.items, view.interactions, view.stale) == (USERS, ITEMS, USERS * LENGTH, None)


def test_what_is_up_to_date_is_left(
    tmp_path: Path, take: Callable[..., Dataset], items: Path, progress: ListProgress
) -> None:
    folder = write_folder(tmp_path / "folder", pa.string())
    written = take(folder).sequences.stat().st_mtime_ns
    assert take(folder).sequences.stat().st_mtime_ns == written
    assert "is up to date" in progress.messages[-1]
    items.write_text(items.read_text() + "999,New\n")
    assert take(folder).sequences.stat().st_mtime_ns != written
    os.utime(folder / SPARK.format(0), ns=(1, 1))
    load_sequences(take(folder).sequences)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.unlink(), "does not exist. Put it back, or import again"),
        (lambda file: file.write_bytes(file.read_bytes() + b"more"), "has changed since its import"),
        (lambda file: file.write_bytes(file.read_bytes()[::-1]), "has changed since its import"),
    ],
)
def test_a_file_that_is_gone_or_changed_is_one_line(
    tmp_path: Path, take: Callable[..., Dataset], change: Callable, message: str
) -> None:
    folder = write_folder(tmp_path / "folder", pa.string())
    dataset = take(folder)
    change(folder / SPARK.format(1))
    with pytest.raises(UserError, match=message) as refused:
        load_sequences(dataset.sequences)
    assert SPARK.format(1) in str(refused.value)
    assert "--sequences" in str(refused.value)


def test_a_file_that_was_copied_back_is_the_same(tmp_path: Path, take: Callable[..., Dataset]) -> None:
    folder = write_folder(tmp_path / "folder", pa.string())
    dataset = take(folder)
    shutil.copyfile(folder / SPARK.format(1), tmp_path / "copy")
    shutil.copyfile(tmp_path / "copy", folder / SPARK.format(1))
    assert sequences(dataset) == LISTS


def rewritten(folder: Path, users: list, lists: list) -> None:
    table = pa.table({"user_id": users, "item_ids": pa.array(lists, pa.list_(pa.string()))})
    pq.write_table(table, folder / SPARK.format(2))


NO_TEXT = pa.array([b"a", b"\xff"]).view(pa.string())  # as a file may hold it


@pytest.mark.parametrize(
    ("users", "lists", "message"),
    [
        (["a", "b"], [["100", "101", "102"], ["100", "1", "102"]], "row 41 holds '1', which is no item"),
        (["a", "b"], [["100", "101", "102"], ["100"]], r"row 41 has 1 item\(s\)"),
        (["a", "b"], [["100", "101", "102"], None], r"row 41 has 0 item\(s\)"),
        (["a", "u00"], [["100", "101", "102"]] * 2, "User 'u00' has 2 rows"),
        (["a", None], [["100", "101", "102"]] * 2, "column user_id has no value in row 1"),
        ([["a"], ["b"]], [["100", "101", "102"]] * 2, "column user_id holds list.*ids of users are whole"),
        ([0.5, 1.5], [["100", "101", "102"]] * 2, "column user_id holds double; ids of users are whole"),
        (NO_TEXT, [["100", "101", "102"]] * 2, "not a readable Parquet file.*[Ii]nvalid UTF8"),
    ],
)
def test_unusable_rows_are_refused_and_nothing_is_written(
    tmp_path: Path, take: Callable[..., Dataset], workspace: Workspace, users: list, lists: list, message: str
) -> None:
    folder = write_folder(tmp_path / "folder", pa.string())
    rewritten(folder, users, lists)
    with pytest.raises(UserError, match=message):
        take(folder)
    assert not workspace.dataset("lake").path.exists()


def test_other_files_and_columns_are_refused(tmp_path: Path, take: Callable[..., Dataset]) -> None:
    folder = write_folder(tmp_path / "folder", pa.string())
    with pytest.raises(UserError, match="no column who"):
        take(folder, user_column="who")
    assert sequences(take(folder, user_column="user_id", item_column="item_ids")) == LISTS
    (folder / "notes.txt").write_text("not of the data")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        take(folder)
    with pytest.raises(UserError, match="is no folder"):
        take(tmp_path / "missing")


def test_a_list_that_does_not_record_its_columns_is_refused(
    tmp_path: Path, take: Callable[..., Dataset]
) -> None:
    dataset = take(write_folder(tmp_path / "folder", pa.string()))
    table = artifacts.read(dataset.sequences, "sequence_files")
    artifacts.write(dataset.sequences, "sequence_files", table, config={"users": "user_id", "lists": 3})
    with pytest.raises(UserError, match=r"folder is missing\. .*maskgr import NAME --seq"):
        load_sequences(dataset.sequences)


def test_interactions_of_the_same_name_are_not_mixed(
    tmp_path: Path, take: Callable[..., Dataset], workspace: Workspace, progress: ListProgress
) -> None:
    folder, log = write_folder(tmp_path / "folder", pa.string()), tmp_path / "log.csv"
    log.write_text("user,item,time\n" + "".join(f"u,{100 + t},{t}\n" for t in range(4)))
    dataset = take(folder)
    import_dataset(workspace, "lake", ImportConfig(), progress, interactions=[log])
    assert len(load_sequences(dataset.sequences)) == 1
    with pytest.raises(UserError, match="is a data set of interactions"):
        take(folder)


def test_the_command_takes_a_folder(tmp_path: Path, items: Path, maskgr: Callable) -> None:
    folder = write_folder(tmp_path / "a folder", pa.int64())
    done = maskgr("import", "lake", "--sequences", folder, "--items", items)
    assert done.returncode == 0, done.stderr
    assert "3 files with 60 users and 360 interactions stay in" in done.stderr


def test_it_trains_is_measured_and_recommends(
    tmp_path: Path, take: Callable[..., Dataset], workspace: Workspace, progress: ListProgress
) -> None:
    dataset = take(write_folder(tmp_path / "folder", pa.int64()))
    measured = {}
    for shuffle in ("groups", "all"):
        settings = plan_of(workspace, "sasrec", {}, {"steps": 2, "validations": 1, "shuffle": shuffle})
        run = train_run(workspace, replace(settings, dataset="lake"), progress, name=shuffle)
        found = evaluate_run(workspace, run, EvalConfig(Decoding(beams=10)), progress)
        measured[shuffle] = found.metrics["users"][0].as_py()
    assert measured == {"groups": USERS, "all": USERS}
    model = load("groups", workspace=workspace.root, device="cpu")
    everyone = tmp_path / "all.parquet"
    recommend_to_everyone(model, everyone, model.query(Decoding(), 10), progress)
    assert pl.read_parquet(everyone)["user_id"].unique().sort().to_list() == list(LISTS)
    assert model.history("u07") == LISTS["u07"]
    assert len(load_sequences(dataset.sequences)) == USERS


def test_what_needs_a_copy_refuses_it(tmp_path: Path, take: Callable[..., Dataset]) -> None:
    dataset = take(write_folder(tmp_path / "folder", pa.int64()))
    with pytest.raises(UserError, match="lists the files of another program"):
        read_content(dataset)
    with pytest.raises(UserError, match="lists the files of another program"):
        rows_of_users(dataset, ["u07"])
    files = f"--sequences {tmp_path / 'folder'} --items {tmp_path / 'items.csv'}"
    assert dataset_command(dataset) == f"maskgr import lake {files}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sequences", "."], "Give their file with --items"),
        (
            ["--sequences", ".", "--items", "i.csv", "--min-count", "5"],
            "--min-count has no effect on --sequences",
        ),
        (["--sequences", ".", "--interactions", "i.csv"], "--interactions has no effect on --sequences"),
        ([], "There is nothing to import"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    maskgr: Callable, options: list[str], message: str
) -> None:
    done = maskgr("import", "lake", *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_example_job_of_the_documents(
    tmp_path: Path, take: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    rows = [f"{user},{item},{place}\n" for user, row in LISTS.items() for place, item in enumerate(row)]
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows[::-1]))
    job = str(ROOT / "docs" / "examples" / "sequences_duckdb.py")
    monkeypatch.setattr("sys.argv", [job, str(tmp_path / "log.csv"), str(tmp_path / "out"), "--buckets", "4"])
    runpy.run_path(job, run_name="__main__")
    assert len(list((tmp_path / "out").glob("bucket=*/*.parquet"))) == 4
    assert sequences(take(tmp_path / "out")) == LISTS
