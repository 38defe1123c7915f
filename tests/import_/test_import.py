"""A person's own files: filters and order against plain Python, formats and columns, mistakes."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipelines import artifacts
from pipelines.download.config import ImportConfig
from pipelines.errors import UserError
from pipelines.import_ import build as tabular
from pipelines.import_.build import import_dataset
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ROOT, ListProgress


def load(dataset: Dataset) -> tuple[dict[str, list[str]], dict[str, str]]:
    """user_id → item_ids in order, and item_id → text."""
    items = artifacts.read(dataset.items, "items")
    names = items["item_id"].to_pylist()
    sequences = artifacts.read(dataset.sequences, "sequences")
    users = dict(zip(sequences["user_id"].to_pylist(), sequences["items"].to_pylist(), strict=True))
    return {u: [names[i] for i in row] for u, row in users.items()}, dict(
        zip(names, items["text"].to_pylist(), strict=True)
    )


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
        workspace, "own", ImportConfig(min_count=k), progress, interactions=tmp_path / "log.csv"
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


ROWS = [
    ("ann", "x", 3),
    ("ann", "y", 1),
    ("bob", "y", 5),
    ("ann", "z", 2),
    ("bob", "x", 4),
    ("bob", "w", 6),
    ("bob", "w", 6),
    ("cy", "x", 1),
]
LOG = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")
ITEMS = pl.DataFrame(
    {
        "item_id": ["z", "y", "x", "unused"],
        "title": ["Zed", "", "Ex"] + ["-"],
        "tags": [["a", "b"], None, [], ["c"]],
        "price": [1.0] * 4,
    }
)
EXPECTED = {"ann": ["y", "z", "x"], "bob": ["x", "y", "w"]}


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz"])
@pytest.mark.parametrize(
    "names",
    [
        ("user_id", "item_id", "timestamp"),
        ("reviewerID", "asin", "unixReviewTime"),
        ("userId", "movieId", "Date"),
    ],
)
def test_formats_and_common_names(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, form: str, names: tuple
) -> None:
    log = LOG.rename(dict(zip(LOG.columns, names, strict=True)))
    if names[2] == "Date":
        log = log.with_columns(pl.format("2020-01-0{}T10:00:00Z", pl.col("Date")))
    plain = tmp_path / f"log.{form.removesuffix('.gz')}"
    {
        "csv": log.write_csv,
        "tsv": lambda p: log.write_csv(p, separator="\t"),
        "jsonl": log.write_ndjson,
        "parquet": log.write_parquet,
    }[form.removesuffix(".gz")](plain)
    path = tmp_path / f"log.{form}"
    if form.endswith(".gz"):
        path.write_bytes(gzip.compress(plain.read_bytes()))
    ITEMS.write_parquet(tmp_path / "items.parquet")
    dataset = import_dataset(
        workspace, "own", ImportConfig(), progress, interactions=path, items=tmp_path / "items.parquet"
    )
    sequences, texts = load(dataset)
    assert sequences == EXPECTED
    assert texts == {
        "z": "Zed. a, b",
        "y": "",
        "x": "Ex",
        "w": "",
    }  # order of the items file, then what it lacks
    said = " ".join(progress.messages)
    assert "Dropped 1 users with fewer than 3 items" in said
    assert "1 of 4 items are not in the items file, e.g. w" in said
    assert "2 of 4 items have no text" in said


def test_named_columns_and_what_is_up_to_date(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    log, items = tmp_path / "log.csv", tmp_path / "items.jsonl"
    LOG.rename({"user_id": "who", "item_id": "what", "timestamp": "when"}).write_csv(log)
    ITEMS.rename({"item_id": "what"}).write_ndjson(items)
    config = ImportConfig(
        user_column="who", item_column="what", time_column="when", text_columns="tags,price"
    )
    dataset = import_dataset(workspace, "own", config, progress, interactions=log, items=items)
    assert load(dataset)[0] == EXPECTED
    assert load(dataset)[1]["z"] == "a, b. 1.0"
    written = dataset.sequences.stat().st_mtime_ns
    import_dataset(workspace, "own", config, progress, interactions=log, items=items)
    assert "own is up to date" in progress.messages[-1]
    assert dataset.sequences.stat().st_mtime_ns == written
    LOG.head(3).vstack(LOG.tail(5)).rename({"user_id": "who", "item_id": "what", "timestamp": "when"}).sort(
        "who"
    ).write_csv(log)
    import_dataset(workspace, "own", config, progress, interactions=log, items=items)
    assert dataset.sequences.stat().st_mtime_ns > written
    assert "Making own again: its interactions changed." in progress.messages
    assert artifacts.stale(dataset.sequences) is None


@pytest.mark.parametrize(
    ("items", "config", "text"),
    [
        (ITEMS.rename({"title": "text"}), {}, "Zed. a, b"),
        (
            ITEMS.rename({"item_id": "sku", "title": "item_id", "tags": "item"}),
            {"item_column": "sku"},
            "Zed. a, b",
        ),
        (
            ITEMS.with_columns(pl.lit("1").alias("text"), pl.lit("2").alias("text_given")),
            {},
            "Zed. a, b. 1. 2",
        ),
        (ITEMS.rename({"item_id": "id"}), {}, "Zed. a, b"),
        (ITEMS, {"text_columns": "title, title"}, "Zed"),
        (ITEMS.with_columns(pl.col("title").cast(pl.Categorical)), {}, "Zed. a, b"),
        (ITEMS.with_columns(tags=pl.Series([["a", "b"]] * 4, dtype=pl.Array(pl.String, 2))), {}, "Zed. a, b"),
    ],
    ids=["text", "item and item_id", "text and text_given", "id", "twice", "categorical", "array"],
)
def test_items_files_as_people_have_them(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, items: pl.DataFrame, config: dict, text: str
) -> None:
    LOG.rename({"item_id": config.get("item_column", "item_id")}).write_csv(tmp_path / "log[1].csv")
    items.write_parquet(tmp_path / "items[1].parquet")
    dataset = import_dataset(
        workspace,
        "own",
        ImportConfig(**config),
        progress,
        interactions=tmp_path / "log[1].csv",
        items=tmp_path / "items[1].parquet",
    )
    assert load(dataset)[0] == EXPECTED
    assert load(dataset)[1]["z"] == text


def test_ids_in_csv_stay_as_they_are_written(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    LOG.with_columns(pl.col("item_id").replace({"x": "007", "y": "7", "z": "0", "w": "00"})).write_csv(
        tmp_path / "log.csv"
    )
    pl.DataFrame({"asin": ["007", "B1"], "title": ["Bond", "-"]}).write_csv(tmp_path / "items.csv")
    dataset = import_dataset(
        workspace,
        "own",
        ImportConfig(),
        progress,
        interactions=tmp_path / "log.csv",
        items=tmp_path / "items.csv",
    )
    assert load(dataset) == (
        {"ann": ["7", "0", "007"], "bob": ["007", "7", "00"]},
        {"007": "Bond", "7": "", "0": "", "00": ""},
    )


@pytest.mark.parametrize(
    ("times", "order"),
    [
        (
            ["2020-01-01T12:00:00+02:00", "2020-01-01T11:00:00Z", "2020-01-01 10:30"],
            "xzy",
        ),  # 10:00, 11:00 and 10:30 UTC
        (["2020-01-02", "2020-01-01T23:59:59.999999", "2020-01-01T23:59:59.999998"], "zyx"),
        ([str(1_400_000_000_000_000_000 + i) for i in (2, 1, 0)], "zyx"),  # nanoseconds: too long for a float
        (["1.5", "1e-3", "1"], "yzx"),
    ],
    ids=["offsets", "fractions", "nanoseconds", "floats"],
)
def test_times_in_text(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, times: list[str], order: str
) -> None:
    pl.DataFrame({"user": ["ann"] * 3, "item": list("xyz"), "time": times}).write_ndjson(
        tmp_path / "log.jsonl"
    )
    dataset = import_dataset(workspace, "own", ImportConfig(), progress, interactions=tmp_path / "log.jsonl")
    assert load(dataset)[0] == {"ann": list(order)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamp": pl.Series([1.0, float("nan")] * 4)}, "column timestamp holds nan in row 1"),
        ({"timestamp": pl.Series([datetime.time(1)] * 8)}, "holds Time values, which are no times"),
        ({"item_id": pl.Series(["x", ""] * 4)}, "column item_id has no value in 4 rows, first in row 1"),
        ({"item_id": pl.Series([1.5] * 8)}, "ids must be text or whole numbers"),
        ({"item_id": pl.Series([datetime.timedelta(1)] * 8)}, "ids must be text or whole numbers"),
        (
            {"timestamp": pl.Series([datetime.timedelta(1)] * 8)},
            "holds Duration.* values, which are no times",
        ),
        (
            {"user_id": pl.Series([b"ann", b"\xff"] * 4)},
            "column user_id holds bytes that are no UTF-8, first in row 1",
        ),
        ({"a\0b": pl.Series([1] * 8)}, r"column 'a\\x00b' has a NUL in its name"),
    ],
    ids=["nan", "time of day", "empty id", "float id", "duration id", "duration", "bytes", "NUL"],
)
def test_values_that_mean_nothing(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, change: dict, message: str
) -> None:
    LOG.with_columns(**change).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match=message):
        import_dataset(workspace, "own", ImportConfig(), progress, interactions=tmp_path / "log.parquet")


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
        import_dataset(toy, "toy", ImportConfig(), progress, interactions=tmp_path / "log.csv")
    assert {p: p.read_bytes() for p in toy.root.rglob("*") if p.is_file()} == before


def test_text_columns_need_an_items_file(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    with pytest.raises(
        UserError, match="--text-columns title names columns of an items file. Give it with --items"
    ):
        import_dataset(
            workspace, "own", ImportConfig(text_columns="title"), progress, interactions=tmp_path / "log.csv"
        )


def test_one_column_is_not_two(workspace: Workspace, progress: ListProgress, tmp_path: Path) -> None:
    LOG.write_csv(tmp_path / "log.csv")
    with pytest.raises(UserError, match="need a column each, not item_id, item_id and timestamp"):
        import_dataset(
            workspace, "own", ImportConfig(user_column="item_id"), progress, interactions=tmp_path / "log.csv"
        )


def test_a_file_that_may_not_be_read(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    LOG.write_csv(tmp_path / "log.csv")
    monkeypatch.setattr(tabular, "open", refuse, raising=False)
    with pytest.raises(UserError, match=r"log.csv cannot be read \(Permission denied\)"):
        import_dataset(workspace, "own", ImportConfig(), progress, interactions=tmp_path / "log.csv")


def mistakes() -> list:
    log = LOG.write_csv()
    return [
        ("missing", None, None, "log.csv does not exist"),
        ("format", "log.xlsx", log, "of no known format"),
        ("empty", "log.csv", "user_id,item_id,timestamp\n", "holds no rows"),
        ("nothing", "log.csv", "", "not a readable .csv file|holds no rows"),
        (
            "user column",
            "log.csv",
            log.replace("user_id", "name"),
            "no column of users .* it has name, item_id, timestamp.*--user-column",
        ),
        ("time column", "log.csv", log.replace("timestamp", "when"), "no column of times .*--time-column"),
        ("times", "log.csv", log.replace(",5\n", ",soon\n"), "column timestamp holds 'soon' in row 2"),
        (
            "no times",
            "log.csv",
            log.replace(",5\n", ",\n"),
            "column timestamp has no value in 1 rows, first in row 2",
        ),
        (
            "null ids",
            "log.csv",
            log.replace("bob,w", ",w"),
            "column user_id has no value in 2 rows, first in row 5",
        ),
        (
            "short users",
            "log.csv",
            "\n".join(log.splitlines()[:3]),
            "Every user of toy has fewer than 3 items",
        ),
        ("parquet", "log.parquet", "PAR1 not really", "is not a readable .parquet file"),
        ("gzip", "log.csv.gz", gzip.compress(log.encode() * 50)[:-20], "is not a readable .csv file"),
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
    pl.concat((ITEMS, ITEMS.head(1))).write_ndjson(tmp_path / "items.jsonl")
    failed = maskgr(
        "import", "own", "--interactions", tmp_path / "log.csv", "--items", tmp_path / "items.jsonl"
    )
    assert failed.returncode == 2
    assert "item id 'z' stands in several rows" in failed.stderr
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


def test_ids_may_be_bytes_or_decimals(workspace: Workspace, progress: ListProgress, tmp_path: Path) -> None:
    ids = {
        "x": decimal.Decimal(10**25),
        "y": decimal.Decimal(2),
        "z": decimal.Decimal(3),
        "w": decimal.Decimal(4),
    }
    log = LOG.with_columns(
        pl.col("user_id").cast(pl.Binary),
        pl.Series("item_id", [ids[i] for i in LOG["item_id"]], pl.Decimal(38, 0)),
    )
    log.write_parquet(tmp_path / "log.parquet")
    dataset = import_dataset(
        workspace, "own", ImportConfig(), progress, interactions=tmp_path / "log.parquet"
    )
    assert load(dataset)[0] == {"ann": ["2", "3", str(10**25)], "bob": [str(10**25), "2", "4"]}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_numbers_of_more_than_64_bits(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, form: str
) -> None:
    """Whether of an id, a column that is not asked for or a time, which still orders."""
    path, text = tmp_path / f"log.{form}", LOG.with_columns(pl.lit(7).alias("extra"))
    for column, number in (("item_id", "2" * 30), ("extra", "2" * 30), ("timestamp", "2" * 30)):
        changed = text.with_columns(
            pl.col(column).cast(pl.String).replace({"x": number, "7": number, "3": number})
        )
        changed.write_csv(path) if form == "csv" else path.write_text(
            changed.write_ndjson().replace(f'"{number}"', number)
        )
        dataset = import_dataset(workspace, "own", ImportConfig(), progress, interactions=path)
        assert load(dataset)[0]["ann"] == [
            i.replace("x", number) if column == "item_id" else i for i in EXPECTED["ann"]
        ]


@pytest.mark.parametrize("packed", [False, True])
def test_deep_json_lines_are_named(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, packed: bool
) -> None:
    deep = '{"a":' * 990 + "1" + "}" * 990
    lines = (
        LOG.write_ndjson() + f'{{"user_id": "u", "item_id": "i", "timestamp": 1, "note": {deep}}}\n'
    ).encode()
    path = tmp_path / ("log.jsonl.gz" if packed else "log.jsonl")
    path.write_bytes(gzip.compress(lines) if packed else lines)
    with pytest.raises(UserError, match=r"log.jsonl.*, line 9 nests more than 32 deep"):
        import_dataset(workspace, "own", ImportConfig(), progress, interactions=path)
    path.write_bytes(
        lines.replace(deep.encode(), json.dumps(deep + "\\").encode())
    )  # in a text it is no nesting
    assert load(import_dataset(workspace, "own", ImportConfig(), progress, interactions=path))[0] == EXPECTED


def test_a_panic_of_the_reader_is_one_line(
    workspace: Workspace, progress: ListProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("not yet implemented")

    LOG.write_csv(tmp_path / "log.csv")
    monkeypatch.setattr(pl, "read_csv", panic)
    with pytest.raises(UserError, match=r"log.csv is not a readable .csv file \(not yet implemented\)"):
        import_dataset(workspace, "own", ImportConfig(), progress, interactions=tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("kind", "day", "seconds"),
    [(pl.Date(), 1, 86_400.0)]
    + [
        (pl.Datetime(unit), 86_400 * factor, 86_400.0)
        for unit, factor in (("ms", 10**3), ("us", 10**6), ("ns", 10**9))
    ]
    + [(pl.Datetime("ms"), 2**63 - 1, (2**63 - 1) / 1e3)],  # which no calendar has
)
def test_instants_become_seconds(tmp_path: Path, kind: pl.DataType, day: int, seconds: float) -> None:
    times = pl.Series([0, day], dtype=pl.Int32 if kind == pl.Date() else pl.Int64).cast(kind)
    pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "date": times}).write_parquet(
        tmp_path / "log.parquet"
    )
    assert tabular.read_interactions(tmp_path / "log.parquet", ImportConfig())["timestamp"].to_list() == [
        0.0,
        seconds,
    ]
