"""Times: forms that people have, and what is asked about."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import UserError
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.prepare.account import Account
from pipelines.progress import Silent
from pipelines.workspace import Workspace
from tests.import_.samples import read

NOON = 1_641_038_400  # 2022-01-01 12:00:00 UTC


def times(tmp_path: Path, values: list, **options: object) -> tuple[list[float], Account]:
    log = pl.DataFrame(
        {"user": ["u"] * len(values), "item": ["i"] * len(values), "time": values}, strict=False
    )
    tables, account = read(tmp_path, log.write_csv(), config=ImportConfig(**options))
    return tables.interactions.to_series(2).to_list(), account


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2022-01-01 12:00:00 UTC", "2022-01-01T13:00+01:00"], "dates, the year first"),
        (["2022/1/1 12:00", "2022/1/1 12:00 PM"], "dates, the year first"),
        (["1 Jan 2022 12:00", "01-January-2022 12:00"], "dates, the month by name"),
        (["Jan 1, 2022 12:00", "January 1, 2022 12:00 pm"], "dates, the month by name"),
        (["Sat, 1 Jan 2022 12:00:00 GMT"] * 2, "dates, the month by name"),
        ([NOON, NOON], "seconds since 1970"),
        ([NOON * 10**3] * 2, "milliseconds since 1970"),
        ([NOON * 10**6] * 2, "microseconds since 1970"),
        ([NOON * 10**9] * 2, "nanoseconds since 1970"),
    ],
)
def test_forms(tmp_path: Path, values: list, form: str) -> None:
    found, account = times(tmp_path, values)
    assert account.times == f"{form}, 2022-01-01 12:00:00 to 2022-01-01 12:00:00"
    assert found == ([NOON] * 2 if "dates" in form else values)


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["02-01-2022 04:28", "28-06-2022 04:28"], "dates, the day first"),
        (["01/02/2022 04:28 AM", "06/28/2022 04:28 AM"], "dates, the month first"),
        (["02.01.2022 04:28", "28.06.2022 04:28:00"], "dates, the day first"),
    ],
)
def test_one_row_decides_whether_the_day_comes_first(tmp_path: Path, values: list, form: str) -> None:
    _, account = times(tmp_path, values)
    assert account.times == f"{form}, 2022-01-02 04:28:00 to 2022-06-28 04:28:00"


def test_no_row_decides_whether_the_day_comes_first(tmp_path: Path) -> None:
    values = ["01-02-2022 14:00", "03-04-2022 15:00"]
    with pytest.raises(UserError) as refused:
        times(tmp_path, values)
    message = str(refused.value)
    assert "no row decides whether the day or the month comes first, as in '01-02-2022 14:00' (" in message
    assert "log, line 2" in message
    for form, first in (("%d-%m-%Y %H:%M", "2022-02-01"), ("%m-%d-%Y %H:%M", "2022-01-02")):
        assert f'"{form}"' in message
        assert first in times(tmp_path, values, time_format=form)[1].times


@pytest.mark.parametrize(
    ("values", "form", "first"),
    [
        (["20220628", "20220629"], "%Y%m%d", "2022-06-28 00:00:00"),
        (["28|06|22 04h28"] * 2, "%d|%m|%y %Hh%M", "2022-06-28 04:28:00"),
        (["28.06.2022 04:28 +0200"] * 2, "%d.%m.%Y %H:%M %z", "2022-06-28 02:28:00"),
    ],
)
def test_a_form_that_is_given(tmp_path: Path, values: list, form: str, first: str) -> None:
    assert f"of the form {form}, {first}" in times(tmp_path, values, time_format=form)[1].times


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (
            ["13-01-2022", "01-13-2022"],
            {},
            r"day comes first in '13-01-2022' \(.*line 2\), the month in '01",
        ),
        (
            [NOON * 1000, NOON],
            {},
            rf"{NOON}000 \(.*line 2\) are milli.*{NOON} \(.*line 3\) seconds",
        ),
        (["soon", "late"], {}, "line 2: 'soon' in column time is not a time.*--time-format"),
        (["2022-01-01"] * 2, {"time_format": "%I:%M"}, '--time-format "%I:%M" is no form of times'),
        (
            ["2022-01-01"] * 2,
            {"time_format": "%d.%m.%Y"},
            "line 2: '2022-01-01' in column time is not",
        ),
        ([1.5, 2.5], {"time_format": "%Y"}, "Leave --time-format out"),
        (
            ["2022-01-01"] * 2,
            {"newest_first": True},
            "--newest-first has no effect beside the times in",
        ),
        (
            ["2022-01-01"] * 2,
            {"time_format": "%Y", "time_column": "none"},
            "--time-format has no effect without a column of times",
        ),
    ],
)
def test_times_that_are_refused(tmp_path: Path, values: list, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        times(tmp_path, values, **options)


def test_positions_have_no_units(tmp_path: Path) -> None:
    log = f"user,item,position\nu,i,{NOON}\nu,j,{NOON}000\n"
    tables, account = read(tmp_path, log)
    assert tables.interactions.columns == ["user_id", "item_id", "position"]
    assert account.times == f"positions, {NOON} to {NOON}000"


def test_the_order_of_the_file_on_request(tmp_path: Path) -> None:
    log = "user_id,item_id\n" + "".join(f"u,{item}\n" for item in "cab")
    with pytest.raises(UserError, match="has no column of times .*--time-column none"):
        read(tmp_path, log)
    tables, account = read(tmp_path, log, config=ImportConfig(time_column="none"))
    assert tables.interactions.rows() == [("u", "c", 0), ("u", "a", 1), ("u", "b", 2)]
    assert account.times == "none; the order is that of the file"
    tables, _ = read(tmp_path, log, config=ImportConfig(time_column="none", newest_first=True))
    assert tables.interactions["position"].to_list() == [2, 1, 0]


def test_columns_of_small_numbers_may_not_be_times(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    log = {"user_id": ["u"] * 3, "item_id": list("abc"), "other": pl.Series([1, 2, 3], dtype=pl.Int16)}
    pl.DataFrame(log).write_parquet(path)
    with pytest.raises(UserError, match=r"it has user_id, item_id, other\. Name the one of times"):
        import_dataset(
            Workspace(tmp_path / "w"), "toy", ImportConfig(), Silent(), interactions=[path], items=[]
        )


def test_a_column_that_may_hold_times_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"when \(2022-01-01\) may be it"):
        read(tmp_path, "user,item,when\nu,i,2022-01-01\nu,j,2022-01-02\n")
