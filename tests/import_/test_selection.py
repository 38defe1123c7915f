"""Rows that are no interactions: selected by options, doubted without them, dropped up to a share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.import_.config import ImportConfig
from tests.import_.samples import read

pytest.importorskip("sqlglot")

ROWS = "user,item,label,event,stars,price,time\n" + "".join(
    f"u{n % 3},i{n},{n % 2},{'view' if n % 3 else 'buy'},{n % 6},2.5,{n}\n" for n in range(12)
)


def items(tmp_path: Path, rows: str = ROWS, **options: object) -> list[str]:
    return read(tmp_path, rows, config=ImportConfig(**options))[0].interactions["item_id"].to_list()


def test_a_condition_selects_rows(tmp_path: Path) -> None:
    assert items(tmp_path, where="label = 1") == ["i1", "i3", "i5", "i7", "i9", "i11"]
    assert items(tmp_path, where="event = 'buy' or item = 'i1'") == ["i0", "i1", "i3", "i6", "i9"]
    assert items(tmp_path, min_rating=4) == ["i4", "i5", "i10", "i11"]
    assert items(tmp_path, min_rating=4, where="label = 1") == ["i5", "i11"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": "label = 2"}, 'No row of .*log satisfies --where "label = 2"'),
        ({"where": "lable = 1"}, "--where 'lable = 1': there is no column 'lable'. Near ones are label"),
        ({"where": "label = 1", "min_rating": 9.5}, 'satisfies --where "label = 1" and --min-rating 9.5'),
    ],
)
def test_conditions_that_select_nothing(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        items(tmp_path, **options)


def test_a_rating_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column of ratings .*Leave --min-rating out, or write"):
        items(tmp_path, "user,item,time\nu,i,1\n", min_rating=4)


@pytest.mark.parametrize(
    ("options", "doubted"),
    [
        ({}, ["label", "event", "stars"]),
        ({"where": "label = 1"}, ["event"]),  # no rating of 0 is left
        ({"where": "event = 'view'"}, ["label"]),
        ({"min_rating": 0}, ["label", "event"]),
        ({"user_column": "label"}, ["event", "stars"]),
    ],
)
def test_columns_that_suggest_that_items_were_not_taken(
    tmp_path: Path, options: dict, doubted: list[str]
) -> None:
    _, account = read(tmp_path, ROWS, config=ImportConfig(**options))
    found = [note.split()[1] for note in account.notes if "count as interactions" in note]
    assert found == doubted


def test_a_doubt_names_the_values_and_the_option(tmp_path: Path) -> None:
    _, account = read(tmp_path, ROWS)
    doubts = [note for note in account.notes if "count as interactions" in note]
    assert doubts[0] == (
        "Column label holds 0 (6 rows), 1 (6 rows): all of them count as interactions. "
        '--where "label = 1" selects rows.'
    )
    assert "event holds view (8 rows), buy (4 rows)" in doubts[1]
    assert doubts[2].endswith("--min-rating 1 selects rows.")


def test_rows_that_cannot_be_used_are_dropped_up_to_a_share(tmp_path: Path) -> None:
    rows = "user,item,time\n" + "u,i,1\n" * 95 + ",i,1\nu,,1\nu,i,\nu,i,soon\nu,i\n"
    with pytest.raises(UserError) as refused:
        items(tmp_path, rows)
    message = str(refused.value)
    assert "5 of 100 rows cannot be used: 1 have another number of fields than 3, first " in message
    assert "line 101: 2 fields: 'u,i'" in message
    assert "--max-bad-rows 0.05" in message
    config = ImportConfig(max_bad_rows=0.05)
    tables, account = read(tmp_path, rows, config=config)
    assert len(tables.interactions) == 95
    assert [(d.rows, d.reason, d.first.split("log, ")[1]) for d in account.dropped] == [
        (1, "have another number of fields than 3", "line 101: 2 fields: 'u,i'"),
        (1, "have no user", "line 97: user is None"),
        (1, "have no item", "line 98: item is None"),
        (1, "have no time", "line 99: time is None"),
        (1, "have a time that is none like the others", "line 100: time is 'soon'"),
    ]


def test_lines_are_counted_after_a_condition(tmp_path: Path) -> None:
    rows = "user,item,label,time\n" + "u,i,0,1\nu,i,1,1\n" * 3 + "u,,1,1\n"
    with pytest.raises(UserError, match="1 have no item, first .*log, line 8: item is None"):
        items(tmp_path, rows, where="label = 1")
