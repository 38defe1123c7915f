"""A workspace with the names that the documents use: the data set `beauty`, the run `RUN` and others.

All data is invented.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from tests.conftest import ROOT

ITEMS = ("B000142FVW", "B0009RF9DW", "B00JJVG6HC", *(f"B{number:09}" for number in range(57)))
TITLES = ("Green tea soap", "Rose water", "Shampoo of oats", *(f"Cream number {n}" for n in range(57)))
USERS = ("1234", "5678", *(f"user-{number}" for number in range(48)))
RUNS = ("first", "second", "NAME", "my-run", "small-maskgr-3fa9c1")
TRAINING = ("--preset", "smoke", "--steps", "10", "--validations", "1", "--sids", "3", "--codebook", "16")
Maskgr = Callable[..., str]


def maskgr(*arguments: object) -> str:
    """Run the command line in this process and return its standard output."""
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, f"maskgr {' '.join(map(str, arguments))}: {done.output}"
    return done.stdout


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of the names that the documents use, and a workspace `data`."""
    folder = tmp_path_factory.mktemp("documents")
    write_files(folder)
    before, environment = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ["MASKGR_WORKSPACE"] = "data"
    try:
        for name in ("shop", "beauty"):
            maskgr("import", name, "--interactions", "orders.csv", "--items", "products.csv")
            maskgr("embed")
            maskgr("tokenize", "--sids", 3, "--codebook", 16)
            for sids in ("NAME", "lsa-4x256"):
                maskgr("tokenize", "--sids", 3, "--codebook", 16, "--name", sids)
        maskgr("train", *TRAINING, "--name", "RUN")
        for name in RUNS:
            shutil.copytree("data/runs/RUN", f"data/runs/{name}")
        maskgr("export", "RUN", "--output", "FOLDER")
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
    return folder


def write_files(folder: Path) -> None:
    """Write the files that the documents name."""
    rng = random.Random(0)
    rows = []
    for user in USERS:
        start = rng.randrange(len(ITEMS))
        for step in range(8):
            rows.append((user, ITEMS[(start + step) % len(ITEMS)], f"2026-01-{step + 1:02}"))
    tags = [json.dumps([("green", "black")[n % 2], "all"]) for n in range(len(ITEMS))]
    products = [
        (item, title, ("Kitchen", "Bath")[n % 2], n % 50, tags[n])
        for n, (item, title) in enumerate(zip(ITEMS, TITLES, strict=True))
    ]
    head = ("item_id", "title", "category", "price", "tags")
    new = [("NEW1", "Honey soap", "Bath", 3, '["green"]')]
    tables = {
        "orders.csv": [("user_id", "item_id", "timestamp"), *rows],
        "clicks.csv": [("user_id", "item_id", "timestamp"), *rows],
        "products.csv": [head, *products],
        "new.csv": [head, *new],
        "histories.csv": [("user_id", "item_id"), ("a", ITEMS[0]), ("a", ITEMS[1]), ("b", ITEMS[2])],
        "theirs.csv": [
            ("user_id", "item_id", "rank"),
            *((user, ITEMS[rank], rank) for user in USERS for rank in range(1, 25)),
        ],
    }
    for name, table in tables.items():
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)
    lines = [json.dumps(dict(zip(head, row, strict=True))) + "\n" for row in products]
    (folder / "products.jsonl").write_text("".join(lines))
    (folder / "users.txt").write_text("user-1\nuser-2\n")
    vectors = np.random.default_rng(0).normal(size=(len(ITEMS), 32)).round(3).tolist()
    import polars as pl

    pl.DataFrame({"item_id": ITEMS, "embedding": vectors}).write_parquet(folder / "vectors.parquet")
    theirs = {item: [f"<a_{n % 8}>", f"<b_{n // 8}>"] for n, item in enumerate(ITEMS)}
    (folder / "theirs.index.json").write_text(json.dumps(theirs))
    (toml,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "training.md").read_text("utf-8"), re.DOTALL)
    (folder / "settings.toml").write_text(toml)
