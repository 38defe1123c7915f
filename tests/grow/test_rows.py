"""Rows that a file adds to a catalogue: their types, their texts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.grow.rows import with_new_rows
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress

ITEMS = """{"sku": "007", "title": "Red soap", "tags": ["bath", "hand"]}
{"sku": "b", "title": "Blue oil", "tags": []}
{"sku": "c", "title": null, "tags": ["skin"]}
"""


@pytest.fixture
def shop(workspace: Workspace, tmp_path: Path, progress: ListProgress) -> Dataset:
    """Return an imported data set with the texts "Red soap. bath, hand", "Blue oil" and "skin"."""
    (tmp_path / "items.jsonl").write_text(ITEMS)
    rows = [f"u{u},{item},{t}" for u in range(4) for t, item in enumerate(["007", "b", "c", "b"])]
    (tmp_path / "log.csv").write_text("\n".join(["user,sku,time", *rows]))
    return import_dataset(
        workspace,
        "shop",
        ImportConfig(item_column="sku"),
        progress,
        interactions=[tmp_path / "log.csv"],
        items=[tmp_path / "items.jsonl"],
    )


def written(tmp_path: Path, text: str, name: str = "new.jsonl") -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_new_rows_follow_the_old_ones_with_their_texts(
    shop: Dataset, tmp_path: Path, progress: ListProgress
) -> None:
    """`price` is new. The column `text` of the file is stored under another name, as import does."""
    file = written(
        tmp_path,
        '{"sku": "008", "title": "Green brush ", "tags": ["hair"], "price": 2.5, "text": "x"}\n'
        '{"sku": "d", "tags": ["a", null, "b"], "price": 3, "text": ""}\n',
    )
    old = artifacts.read(shop.items, "items")
    items, count = with_new_rows(shop, file, progress)
    assert count == 2
    for name in old.column_names:
        assert items[name].slice(0, 3).equals(old[name])
        assert items.schema.field(name).type == old.schema.field(name).type
    assert items["item"].to_pylist() == list(range(5))
    assert items["item_id"].to_pylist()[3:] == ["008", "d"]
    assert items["text"].to_pylist()[3:] == ["Green brush. hair", "a, b"]
    assert items["price"].to_pylist() == [None, None, None, 2.5, 3.0]
    assert items["text_given"].to_pylist() == [None, None, None, "x", ""]
    artifacts.write(shop.items, "items", items, config={})  # fits the schema


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (None, "Inception. Nolan"),
        ("title", "Inception"),
        ("text,year", "Dreams. 2010"),
        ("year,title", "2010. Inception"),
    ],
)
def test_the_text_has_the_columns_of_the_import(
    workspace: Workspace, tmp_path: Path, progress: ListProgress, columns: str | None, expected: str
) -> None:
    log = written(tmp_path, "user,item,time\n" + "".join(f"u,{i},{i}\n" for i in range(3)), "log.csv")
    text = "item,title,year,by,text\n0,Heat,1995,Mann,\n1,Big,1988,Marshall,\n2,Up,2009,Docter,Fly\n"
    text = (
        text if columns == "text,year" else text.replace(",text", "").replace(",\n", "\n").replace(",Fly", "")
    )
    files = {"interactions": [log], "items": [written(tmp_path, text, "items.csv")]}
    data = import_dataset(workspace, "films", ImportConfig(text_columns=columns), progress, **files)
    new = written(tmp_path, "by,item,year,title,text\nNolan,9,2010,Inception,Dreams\n", "new.csv")
    items, _ = with_new_rows(data, new, progress)
    assert items["text"].to_pylist()[3] == expected
    assert items["year"].to_pylist() == [1995, 1988, 2009, 2010]


def test_an_item_that_is_there_is_left_out_if_it_is_the_same(
    shop: Dataset, tmp_path: Path, progress: ListProgress
) -> None:
    file = written(tmp_path, ITEMS + '{"sku": "z", "title": "Z", "tags": []}\n')
    items, count = with_new_rows(shop, file, progress)
    assert count == 1 and items["item_id"].to_pylist() == ["007", "b", "c", "z"]
    assert progress.messages[-1] == f"3 of 4 items of {file} are in the catalogue already, unchanged."


REFUSED = {
    "other values": (
        '{"sku": "b", "title": "Other", "tags": []}',
        "new.jsonl: item b is in the catalogue already with another title .'Blue oil', not 'Other'.",
    ),
    "another type": ('{"sku": "y", "title": ["a"]}', "new.jsonl: column title does not fit the catalogue"),
    "no id": ('{"name": "y"}', "has no column of item ids .*it has name. Call it item_id"),
    "id twice": ('{"sku": "y"}\n{"sku": "y"}', "item id 'y' occurs several times"),
    "no rows": ("", "holds no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_files(shop: Dataset, tmp_path: Path, progress: ListProgress, case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        with_new_rows(shop, written(tmp_path, text), progress)
    with pytest.raises(UserError, match="nothing.csv does not exist or is not a file"):
        with_new_rows(shop, tmp_path / "nothing.csv", progress)
