"""Import of the user's own files: filters and order against plain Python, what is up to date, mistakes."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.workspace import Workspace
from tests.conftest import ROOT, ListProgress
from tests.import_.samples import EXPECTED, ITEMS, LOG, load


def core(rows: list[tuple[str, str, int]], of_user: int, of_item: int) -> list[tuple[str, str, int]]:
    """The k-core by its definition, one removal at a time."""
    while True:
        users, items = Counter(u for u, _, _ in rows), Counter(i for _, i, _ in rows)
        bad = next((r for r in rows if users[r[0]] < of_user or items[r[1]] < of_item), None)
        if bad is None:
            return rows
        rows = [r for r in rows if r != bad]


@pytest.mark.parametrize(("seed", "k"), [(0, 5), (1, 5), (2, 5), (3, 5), (4, 2), (5, 2), (6, 0)])
def test_filter_and_order_are_those_of_plain_python(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, seed: int, k: int
) -> None:
    rng = random.Random(seed)
    items, draws = (
        (15, 240) if k == 5 else (30, 85)
    )  # so sparse that users with too few items take others below k
    pairs = {(f"u{rng.randrange(25)}", f"i{rng.randrange(items)}") for _ in range(draws)}
    rows = [(u, i, rng.randrange(5)) for u, i in sorted(pairs)]  # many ties
    rng.shuffle(rows)
    pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(tmp_path / "log.csv")
    dataset = import_dataset(
        workspace, "own", ImportConfig(min_count=k), progress, interactions=[tmp_path / "log.csv"]
    )
    kept = core(rows, max(k, 3), k)
    expected = {
        u: [i for _, i, _ in sorted((r for r in kept if r[0] == u), key=lambda r: r[2])] for u, _, _ in kept
    }  # sorted is stable
    found, texts = load(dataset)
    assert found == expected
    assert list(found) == list(dict.fromkeys(u for u, _, _ in kept))  # users in order of appearance
    assert list(texts) == list(dict.fromkeys(i for _, i, _ in kept))
    assert len(kept) > 20


def test_named_columns_and_what_is_up_to_date(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    log, items = tmp_path / "log.csv", tmp_path / "items.jsonl"
    LOG.rename({"user_id": "who", "item_id": "what", "timestamp": "when"}).write_csv(log)
    ITEMS.rename({"item_id": "what"}).write_ndjson(items)
    config = ImportConfig(
        user_column="who", item_column="what", time_column="when", text_columns="tags,price"
    )
    dataset = import_dataset(workspace, "own", config, progress, interactions=[log], items=[items])
    assert load(dataset)[0] == EXPECTED
    assert load(dataset)[1]["z"] == "a, b. 1.0"
    written = dataset.sequences.stat().st_mtime_ns
    import_dataset(workspace, "own", config, progress, interactions=[log], items=[items])
    assert "own is up to date" in progress.messages[-1]
    assert dataset.sequences.stat().st_mtime_ns == written
    LOG.head(3).vstack(LOG.tail(5)).rename({"user_id": "who", "item_id": "what", "timestamp": "when"}).sort(
        "who"
    ).write_csv(log)
    import_dataset(workspace, "own", config, progress, interactions=[log], items=[items])
    assert dataset.sequences.stat().st_mtime_ns > written
    assert "Making own again: its interactions changed." in progress.messages
    assert artifacts.stale(dataset.sequences) is None


@pytest.mark.parametrize("kind", ["interactions", "items", "sequences"])
def test_a_write_that_fails_leaves_the_old_set(
    toy: Workspace, progress: ListProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write = artifacts.write

    def full(path: Path, stage: str, *rest: object, **named: object) -> Path:
        if stage == kind:
            raise OSError(28, "No space left on device")
        return write(path, stage, *rest, **named)

    LOG.write_csv(tmp_path / "log.csv")
    before = {p: p.read_bytes() for p in toy.root.rglob("*") if p.is_file()}
    monkeypatch.setattr(artifacts, "write", full)
    with pytest.raises(UserError, match=r"toy cannot be written in .*datasets \(No space left on device\)"):
        import_dataset(toy, "toy", ImportConfig(), progress, interactions=[tmp_path / "log.csv"])
    assert {p: p.read_bytes() for p in toy.root.rglob("*") if p.is_file()} == before


def test_text_columns_need_an_items_file(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    with pytest.raises(
        UserError, match="--text-columns title names columns of an items file. Give it with --items"
    ):
        import_dataset(
            workspace,
            "own",
            ImportConfig(text_columns="title"),
            progress,
            interactions=[tmp_path / "log.csv"],
        )


def mistakes() -> list:
    log = LOG.write_csv()
    return [
        ("missing", None, None, "log.csv does not exist"),
        ("format", "log.csv", b"PK\x03\x04", "is a zip archive or an Excel workbook"),
        ("empty", "log.csv", "user_id,item_id,timestamp\n", "holds no rows"),
        ("nothing", "log.csv", "", "holds no rows"),
        (
            "user column",
            "log.csv",
            log.replace("user_id", "name"),
            "no column of users .* it has name, item_id, timestamp.*--user-column",
        ),
        ("time column", "log.csv", log.replace("timestamp", "when"), "no column of times .*--time-column"),
        ("times", "log.csv", log.replace(",5\n", ",soon\n"), "log.csv, line 4: timestamp is 'soon'"),
        (
            "no times",
            "log.csv",
            log.replace(",5\n", ",\n"),
            "1 have no time, first .*log.csv, line 4: timestamp is None",
        ),
        (
            "null ids",
            "log.csv",
            log.replace("bob,w", ",w"),
            "2 have no user, first .*log.csv, line 7: user_id is None.*--max-bad-rows 0.25",
        ),
        (
            "short users",
            "log.csv",
            "\n".join(log.splitlines()[:3]),
            "Every user of toy has fewer than 3 items",
        ),
        ("parquet", "log.parquet", "PAR1 not really", "is not a readable file of the format Parquet"),
        (
            "gzip",
            "log.csv.gz",
            gzip.compress(log.encode() * 50, 9, mtime=0)[:-20],
            "is not a readable gzip file",
        ),
    ]


@pytest.mark.parametrize(
    ("file", "data", "message"), [m[1:] for m in mistakes()], ids=[m[0] for m in mistakes()]
)
def test_a_mistake_is_one_line_and_changes_nothing(
    toy: Workspace, maskgr: Callable, tmp_path: Path, file: str | None, data: str | bytes | None, message: str
) -> None:
    path = tmp_path / (file or "log.csv")
    if data is not None:
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    before = {p: p.read_bytes() for p in toy.root.rglob("*") if p.is_file()}
    failed = maskgr("import", "toy", "--interactions", path)  # a data set that is there already
    assert failed.returncode == 2, failed.stderr
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, failed.stderr
    assert pl.Series(errors).str.contains(message)[0], failed.stderr
    assert {p: p.read_bytes() for p in toy.root.rglob("*") if p.is_file()} == before


def test_repeated_items_and_impossible_names(maskgr: Callable, tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    pl.concat((ITEMS, ITEMS.head(1).with_columns(title=pl.lit("Other")))).write_ndjson(
        tmp_path / "items.jsonl"
    )
    failed = maskgr(
        "import", "own", "--interactions", tmp_path / "log.csv", "--items", tmp_path / "items.jsonl"
    )
    assert failed.returncode == 2
    assert "1 repeat an item with other values, first" in failed.stderr
    assert "items.jsonl, line 5: item_id is 'z'" in failed.stderr
    failed = maskgr("import", "../own", "--interactions", tmp_path / "log.csv")
    assert failed.returncode == 2
    assert "cannot be a name" in failed.stderr


@pytest.mark.parametrize(
    ("name", "counts"),
    [("beauty", "22,363 │ 12,101 │      198,502"), ("sports", "35,598 │ 18,357 │      296,337")],
)
def test_the_development_data_imports_as_it_is(maskgr: Callable, name: str, counts: str) -> None:
    folder = ROOT.parent / "shared" / "data" / name
    if not folder.exists():
        pytest.skip("the development data is not part of the repository")
    done = maskgr(
        "import", name, "--interactions", folder / "interactions.parquet", "--items", folder / "items.parquet"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(counts) == 2  # ours and the paper's
