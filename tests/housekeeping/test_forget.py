"""`maskgr data forget`: users leave the data set and what was made of it, and nothing else moves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.errors import UserError
from pipelines.export.build import export_dataset
from pipelines.export.config import ExportConfig
from pipelines.grow.grow import add_items
from pipelines.housekeeping import forget
from pipelines.housekeeping.forget import forget_users
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.inventory import overview
from pipelines.workspace import FORMAT_VERSION, Dataset, Workspace
from tests.conftest import ListProgress

Command = Callable[..., subprocess.CompletedProcess[str]]
USERS, ITEMS = [f"person-{number}" for number in range(8)], [f"thing-{number}" for number in range(6)]
GONE = "person-0"  # the first user, whom the account of the import shows as an example


def write_files(folder: Path) -> tuple[Path, Path]:
    """Write interactions, where user u takes four items from item u on, and two users take thing-5."""
    rows = [
        f"{user},{ITEMS[(number + step) % 5]},{step}"
        for number, user in enumerate(USERS)
        for step in range(4)
    ]
    rows += [f"{GONE},thing-5,10", "person-1,thing-5,11"]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    (folder / "items.csv").write_text(
        "\n".join(["item_id,title", *(f"{item},Title of {item}" for item in ITEMS)])
    )
    return folder / "log.csv", folder / "items.csv"


def write_run(workspace: Workspace, dataset: Dataset, name: str = "first") -> None:
    inputs = {"sequences": {"path": "../../datasets/shop/sequences.parquet"}}
    inputs["sequences"]["sha256"] = artifacts.digest(dataset.sequences)
    config = {
        "format": FORMAT_VERSION,
        "dataset": "shop",
        "sids": None,
        "state": "finished",
        "inputs": inputs,
    }
    artifacts.write_json(workspace.run(name).config, config)
    workspace.run(name).settings.write_text('name = "first"\n')


def write_evaluation(workspace: Workspace, dataset: Dataset, name: str = "greedy") -> None:
    """Write ranks, recommendations and metrics of all users; the rank of user u is u + 1."""
    folder, users = workspace.run("first").evaluation(name), pa.array(range(len(USERS)), pa.int32())
    columns = dict.fromkeys(("user", "target", "rank"), users)
    zeros = pa.array([0] * len(USERS), pa.int32())
    ranks = {**columns, "position": zeros, "rank": pa.array(range(1, 9), pa.int32()), "invalid": zeros}
    inputs, config = {"sequences": dataset.sequences}, {"split": "test", "beams": 10}
    artifacts.write(
        folder / "ranks.parquet",
        "ranks",
        pa.table({**ranks, "duplicates": zeros}),
        config=config,
        inputs=inputs,
    )
    lists = {"user": users, "items": pa.array([[user] for user in range(8)], pa.list_(pa.int32()))}
    scores = pa.array([[float(user)] for user in range(8)], pa.list_(pa.float32()))
    artifacts.write(
        *(folder / "recommendations.parquet", "recommendations", pa.table({**lists, "scores": scores})),
        config=config,
        inputs=inputs,
    )
    row = {"metric": ["recall"], "k": pa.array([10], pa.int32()), "users": pa.array([8], pa.int64())}
    values = {key: [0.5] for key in ("value", "low", "high")}
    artifacts.write(
        folder / "metrics.parquet", "metrics", pa.table({**row, **values}), config=config, inputs=inputs
    )


@pytest.fixture
def dataset(workspace: Workspace, tmp_path: Path, progress: ListProgress) -> Dataset:
    """A data set of eight users, with a run and its evaluation."""
    log, items = write_files(tmp_path)
    config = ImportConfig(min_count=2)
    data = import_dataset(workspace, "shop", config, progress, interactions=[log], items=[items])
    write_run(workspace, data)
    write_evaluation(workspace, data)
    return data


def content(dataset: Dataset) -> dict[str, list[int]]:
    """Return the items of each user, by id."""
    table = artifacts.read(dataset.sequences, "sequences")
    assert table["user"].to_pylist() == [*range(len(table))]
    return dict(zip(table["user_id"].to_pylist(), table["items"].to_pylist(), strict=True))


def everything(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def holders(root: Path, user: str) -> list[Path]:
    """Return the files that have a user in their bytes, in a value or in their metadata."""
    found = []
    for path in root.rglob("*"):
        text = path.read_bytes().decode("latin-1") if path.is_file() else ""
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            text += str(table.to_pylist()) + str(table.schema.metadata)
        if user in text:
            found.append(path)
    return found


def test_a_user_leaves_and_nothing_else_moves(workspace: Workspace, dataset: Dataset) -> None:
    before, items = content(dataset), dataset.items.read_bytes()
    assert {dataset.interactions, dataset.sequences} <= {*holders(workspace.root, GONE)}
    forgotten = forget_users(workspace, None, [GONE])
    assert (forgotten.users, forgotten.interactions, forgotten.min_count) == (1, 5, 2)
    assert forgotten.rare == 1  # thing-5, which one other user took
    assert content(dataset) == {user: row for user, row in before.items() if user != GONE}
    assert dataset.items.read_bytes() == items
    assert holders(workspace.root, GONE) == []
    assert len(artifacts.read(dataset.interactions, "interactions")) == 8 * 4 + 2 - 5
    assert len(load_sequences(dataset.sequences, 6)) == 7


def test_the_provenance_says_how_many_and_not_who(workspace: Workspace, dataset: Dataset) -> None:
    old: Any = artifacts.provenance(dataset.interactions)
    forget_users(workspace, "shop", [GONE, "person-3", GONE])
    new: Any = artifacts.provenance(dataset.interactions)
    (entry,) = new["account"]["forgotten"]
    assert (entry["users"], entry["interactions"]) == (2, 9)
    assert new["config"] == old["config"] and new["inputs"] == old["inputs"]
    forget_users(workspace, "shop", ["person-5"])
    new = artifacts.provenance(dataset.interactions)
    assert [entry["users"] for entry in new["account"]["forgotten"]] == [2, 1]
    assert overview(workspace).datasets[0].stale is None
    assert artifacts.stale(dataset.sequences) is None


def test_rows_of_evaluations_follow_their_users(workspace: Workspace, dataset: Dataset) -> None:
    """Twice: the second removal finds the numbers that the first one gave."""
    folder = workspace.run("first").evaluation("greedy")
    kept = USERS[:]
    for gone in ("person-2", "person-6"):
        forgotten = forget_users(workspace, "shop", [gone])
        kept.remove(gone)
        assert forgotten.pruned == ["runs/first/eval/greedy"] and not forgotten.unassigned
        ranks = artifacts.read(folder / "ranks.parquet", "ranks")
        assert ranks["user"].to_pylist() == [*range(len(kept))]
        numbers = [int(user[-1]) for user in content(dataset)]
        assert ranks["rank"].to_pylist() == [number + 1 for number in numbers]
        lists = artifacts.read(folder / "recommendations.parquet", "recommendations")
        assert [row["items"] for row in lists.to_pylist()] == [[number] for number in numbers]
        assert [*content(dataset)] == kept
    (run,) = overview(workspace).runs
    assert (run.stale, run.evaluations[0].stale) == ("its sequences changed", "its sequences changed")
    assert artifacts.read(folder / "metrics.parquet", "metrics")["users"].to_pylist() == [8]


def test_rows_of_another_version_are_named_and_left(workspace: Workspace, dataset: Dataset) -> None:
    path = workspace.run("first").evaluation("greedy") / "ranks.parquet"
    artifacts.write_again(path, path, {"sequences": {"path": "x", "sha256": "0" * 64}})
    old = path.read_bytes()
    forgotten = forget_users(workspace, "shop", ["person-2"])
    assert forgotten.unassigned == ["runs/first/eval/greedy"] and path.read_bytes() == old


def test_evaluations_of_external_lists_lose_rows_too_and_the_lists_are_named(
    workspace: Workspace, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "theirs.csv").write_text("user,item\nperson-1,thing-2\n")
    lists = {"path": str(tmp_path / "theirs.csv"), "sha256": "0"}
    folder = dataset.external("theirs") / "test-k10"
    for path in workspace.run("first").evaluation("greedy").iterdir():
        artifacts.write_again(folder / path.name, path, {"recommendations": lists})
    forgotten = forget_users(workspace, "shop", ["person-1"])
    assert forgotten.pruned == ["runs/first/eval/greedy", "datasets/shop/external/theirs/test-k10"]
    ranks = artifacts.read(folder / "ranks.parquet", "ranks")["rank"].to_pylist()
    assert ranks == [1, 3, 4, 5, 6, 7, 8]
    assert tmp_path / "theirs.csv" in forgotten.files


def test_a_failure_changes_nothing(
    workspace: Workspace, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write, calls = everything(workspace.root), pq.write_table, []

    def failing(*args: Any, **settings: Any) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(*args, **settings)

    monkeypatch.setattr(forget.pq, "write_table", failing)
    with pytest.raises(UserError, match="No space left"):
        forget_users(workspace, "shop", [GONE])
    assert everything(workspace.root) == before


def test_a_user_that_is_not_there_is_named(workspace: Workspace, dataset: Dataset) -> None:
    forget_users(workspace, "shop", [GONE])
    before = everything(workspace.root)
    with pytest.raises(UserError, match="No user 'person-0', 'nobody' in .* nothing is removed"):
        forget_users(workspace, "shop", ["person-1", GONE, "nobody"])
    with pytest.raises(UserError, match="no other users. Remove it with: maskgr rm datasets/shop"):
        forget_users(workspace, "shop", USERS[1:])
    assert everything(workspace.root) == before


def test_the_data_set_grows_afterwards(
    workspace: Workspace, dataset: Dataset, tmp_path: Path, progress: ListProgress
) -> None:
    """By new items, and by an update from files without the user; items keep their numbers."""
    forget_users(workspace, "shop", ["person-3"])
    (tmp_path / "new.csv").write_text("item_id,title\nthing-9,New thing\n")
    assert add_items(workspace, "shop", tmp_path / "new.csv", progress).items == 1
    rows, numbers = content(dataset), artifacts.read(dataset.items, "items")["item_id"].to_pylist()
    assert "person-3" not in rows and overview(workspace).datasets[0].stale is None
    log = tmp_path / "log.csv"
    lines = [line for line in log.read_text().splitlines() if not line.startswith("person-3,")]
    log.write_text("\n".join([*lines, *(f"late,thing-{item},20" for item in (1, 2, 3))]))
    config = ImportConfig(min_count=2, update=True)
    import_dataset(workspace, "shop", config, progress, interactions=[log], items=[tmp_path / "items.csv"])
    assert content(dataset) == {**rows, "late": [numbers.index(f"thing-{item}") for item in (1, 2, 3)]}
    assert artifacts.read(dataset.items, "items")["item_id"].to_pylist()[:6] == numbers[:6]


def test_the_same_import_does_not_bring_the_user_back(
    workspace: Workspace, dataset: Dataset, tmp_path: Path, progress: ListProgress
) -> None:
    forget_users(workspace, "shop", ["person-3"])
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    import_dataset(
        *(workspace, "shop", ImportConfig(min_count=2), progress), interactions=[log], items=[items]
    )
    assert "person-3" not in content(dataset) and "is up to date" in progress.messages[-1]


def test_the_command_names_what_is_left(
    workspace: Workspace, dataset: Dataset, maskgr: Command, tmp_path: Path
) -> None:
    export_dataset(dataset, ExportConfig(), workspace.root / "exported")
    (tmp_path / "users.txt").write_text("person-0\nperson-4\n")
    asked = maskgr("data", "forget", "--user", "person-1")
    assert asked.returncode == 2 and "answer with --yes" in asked.stderr
    done = maskgr(
        "data", "forget", "--dataset", "shop", "--user", "@users.txt", "--user", "person-1", "--yes"
    )
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "Removed 3 users with 14 interactions from shop."
    assert "runs/first/eval/greedy" in lines
    assert f"maskgr train --config {workspace.run('first').settings} --force" in lines
    named = {Path(line) for line in lines if line.startswith("/")}
    assert named == {tmp_path / "log.csv", workspace.root / "exported" / "interactions.csv"}
    for user in ("person-0", "person-4", "person-1"):
        assert {*holders(workspace.root, user)} == {workspace.root / "exported" / "interactions.csv"}
    assert len(content(dataset)) == 5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,person-1,b", True),
        ("person-12", False),
        ("xperson-1", False),
        ('"person-1"', True),
        ("", False),
        ("person-1\0", False),
    ],
)
def test_a_user_is_found_in_files_as_a_whole_word(
    workspace: Workspace, dataset: Dataset, text: str, found: bool
) -> None:
    file = workspace.root / "mine" / "notes.txt"
    file.parent.mkdir()
    file.write_text(text)
    assert (file in forget_users(workspace, "shop", ["person-1"]).files) == found


def test_other_data_sets_with_the_user_are_named(
    workspace: Workspace, dataset: Dataset, tmp_path: Path, progress: ListProgress
) -> None:
    files = {"interactions": [tmp_path / "log.csv"], "items": [tmp_path / "items.csv"]}
    import_dataset(workspace, "twin", ImportConfig(min_count=2), progress, **files)
    assert forget_users(workspace, "shop", ["person-1"]).others == ["twin"]
    assert "person-1" in content(workspace.dataset("twin"))
