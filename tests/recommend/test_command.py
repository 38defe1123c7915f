"""`maskgr recommend` and `maskgr items` as subprocesses: for whom, which items, and in which form."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import polars as pl
import pytest

from pipelines.recommend.model import Model
from pipelines.workspace import Workspace
from tests.train.test_leakage import ITEMS, USERS

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(store: Workspace, model: Callable[..., Model], maskgr: Run) -> Run:
    """Run `maskgr` on the workspace of the runs."""
    model("maskgr")
    model("sasrec")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return maskgr(*arguments, MASKGR_WORKSPACE=str(store.root))

    return run


def test_recommendations_for_a_user_as_table_and_data(command: Run, model: Callable[..., Model]) -> None:
    shown = command("recommend", "maskgr", "--user", "user-3", "-k", 4, "--where", "price < 30")
    assert shown.returncode == 0, shown.stderr
    assert "User user-3: 8 items; the last: Thing" in shown.stdout
    assert "trained without the last two items of every user" in shown.stderr
    data = command(
        "recommend", "maskgr", "--user", "user-3", "-k", 4, "--where", "price < 30", "--format", "json"
    )
    rows = json.loads(data.stdout)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert {row["user_id"] for row in rows} == {"user-3"}
    assert all(row["item_id"] in shown.stdout for row in rows)
    loaded = model("maskgr")
    expected = loaded.recommend([loaded.history("user-3")], k=4, where="price < 30")
    assert [row["item_id"] for row in rows] == expected["item_id"].to_list()
    data = command("recommend", "maskgr", "--user", "user-3", "-k", 4, "--diversity", 0.6, "--format", "json")
    diverse = loaded.recommend([loaded.history("user-3")], k=4, diversity=0.6)
    assert [row["item_id"] for row in json.loads(data.stdout)] == diverse["item_id"].to_list()


def test_histories_of_a_file(command: Run, tmp_path) -> None:
    """In long form sorted by time, and with lists; a user without a known item gets popular items."""
    (tmp_path / "long.csv").write_text(
        "user,item,timestamp\nb,item-9,5\na,item-4,2\na,item-3,1\nc,unknown,1\na,item-5,3\n"
    )
    (tmp_path / "lists.jsonl").write_text(
        '{"user": "b", "items": ["item-9"]}\n{"user": "a", "items": ["item-3", "item-4", "item-5"]}\n'
        '{"user": "c", "items": []}\n'
    )
    results = {}
    for name in ("long.csv", "lists.jsonl"):
        done = command("recommend", "sasrec", "--from", name, "-k", 2, "--output", f"{name}.parquet")
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        results[name] = pl.read_parquet(tmp_path / f"{name}.parquet").sort("user_id", "rank")
    assert results["long.csv"].equals(results["lists.jsonl"])
    assert results["long.csv"]["source"].to_list() == ["model"] * 4 + ["popularity"] * 2
    one = command("recommend", "sasrec", "--history", "item-3,item-4,item-5", "-k", 2, "--format", "csv")
    assert one.stdout.splitlines()[1].split(",")[2] == results["long.csv"]["item_id"][0]


def test_a_part_of_a_title_names_a_history(command: Run) -> None:
    one = command("recommend", "maskgr", "--like", "thing 42", "-k", 1, "--explain")
    assert one.returncode == 0, one.stderr
    assert "History: 1 item; the last: Thing 42" in one.stdout
    assert "words of the code" in one.stdout
    several = command("recommend", "maskgr", "--like", "thing 4")
    assert several.returncode == 0  # "Thing 4" is a whole title
    several = command("recommend", "maskgr", "--like", "hing 4")
    assert several.returncode == 2
    assert "matches 11 titles" in several.stderr
    assert "Thing 42 (item-42)" in several.stderr
    assert "no title of toy contains it" in command("recommend", "maskgr", "--like", "zebra").stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_all_users_into_one_file(
    command: Run, model: Callable[..., Model], tmp_path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    done = command(
        *("recommend", "sasrec", "--all-users", "-k", 3, "--exclude-seen"),
        *("--output", tmp_path / "all.parquet", "--processes", processes),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    table = pl.read_parquet(tmp_path / "all.parquet")
    loaded = model("sasrec")
    users = [f"user-{u}" for u in range(USERS)]
    expected = loaded.recommend([loaded.history(user) for user in users], k=3, exclude_seen=True)
    assert table["user_id"].unique(maintain_order=True).to_list() == users
    assert table["item_id"].to_list() == expected["item_id"].to_list()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".parquet"] in ([], ["workspace"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Recommendations for whom?"),
        (["--user", "user-1", "--history", "item-1"], "--user and --history exclude each other"),
        (["--user", "nobody"], "No user 'nobody'"),
        (["--all-users"], "give --output FILE.parquet"),
        (["--user", "user-1", "--processes", 2], "--processes share the users of --all-users"),
        (["--user", "user-1", "--output", "x.txt"], "the suffix names no format"),
        (["--user", "user-1", "--format", "xml"], "choose table, json, csv, parquet"),
        (["--user", "user-1", "--explain", "--format", "csv"], "--explain has no effect"),
        (["--user", "user-1", "--where", "colour = 'red'"], "colour"),
        (["--user", "user-1", "--allow", "@none.txt"], "none.txt"),
        (["--user", "user-1", "-k", 0], "-k"),
    ],
    ids=lambda value: " ".join(map(str, value))[:30] if isinstance(value, list) else "",
)
def test_a_mistake_costs_one_line(command: Run, arguments: list[object], message: str) -> None:
    done = command("recommend", "maskgr", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_item_is_shown_with_its_codes_and_similar_items(command: Run, model: Callable[..., Model]) -> None:
    ask = ("items", "show", "item-3", "--run", "maskgr", "--format", "json")
    found = json.loads(command(*ask, "--neighbors", 2).stdout)
    assert [*found] == ["item-3", "codes", "neighbors"]
    loaded = model("maskgr")
    for by in ("model", "sids"):
        rows = [row for row in found["neighbors"] if row["by"] == by]
        expected = loaded.similar(["item-3"], k=2, by=by)
        assert [row["similar_id"] for row in rows] == expected["similar_id"].to_list()
        assert [row["rank"] for row in rows] == [1, 2]
    stored = dict(loaded.semantic_ids.rows())["item-3"]
    codes = [row for row in found["codes"] if row["sids"] == "toy-sids"]
    assert [row["code"] for row in codes] == stored
    counts = [
        sum(sid[digit] == code for sid in loaded.semantic_ids["sid"]) for digit, code in enumerate(stored)
    ]
    assert [row["items"] for row in codes] == counts
    assert "--run maskgr has no effect on --neighbors 0" in command(*ask, "--neighbors", 0).stderr


def test_items_are_listed_shown_and_compared(command: Run) -> None:
    listed = json.loads(
        command("items", "list", "--where", "price > 50", "--limit", 0, "--format", "json").stdout
    )["items"]
    assert {row["item_id"] for row in listed} == {f"item-{i}" for i in range(51, ITEMS) if i % 7}
    counts = [row["interactions"] for row in listed]
    assert counts == sorted(counts, reverse=True)
    shown = command("items", "show", "item-3", "item-14").stdout
    assert "item-3: Thing 3" in shown
    assert "SIDs toy-sids" in shown
    similar = command("items", "similar", "item-3", "--by", "sids", "-k", 2, "--run", "maskgr")
    assert similar.returncode == 0, similar.stderr
    assert "Similar to item-3: Thing 3" in similar.stdout
    wrong = command("items", "show", "item-99")
    assert wrong.returncode == 2
    assert "No item 'item-99'" in wrong.stderr
