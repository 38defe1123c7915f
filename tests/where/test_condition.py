"""Conditions: rows against plain Python, what is refused and how, and that no text breaks the parser."""

from __future__ import annotations

import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.where.condition import DEEPEST, LONGEST, condition

pytest.importorskip("sqlglot")

TABLE = pl.DataFrame(
    {
        "row": [0, 1, 2, 3],
        "price": [1.5, None, float("nan"), -3.0],
        "name": ["Pan", "pot 50%", "a\nb.", None],
        "stock": [True, False, None, True],
        "tags": [["u", "v"], [], None, [None, "w"]],
        "paths": [[["a"], ["b", "c"]], [[]], None, [["a"]]],
        "day": [datetime.date(2020, 1, 1), None, datetime.date(2021, 1, 1), datetime.date(1969, 1, 1)],
        "maker.id": [1, 2, 3, 4],
        "nothing": [None] * 4,
        "two words": [1, 2, 2, 1],
    }
).with_columns(
    pl.col("row").cast(pl.Int8).alias("small"),
    pl.Series("big", [1, 2, 3, 2**64 - 1], dtype=pl.UInt64),
    pl.Series("exact", [1, 2, 3, 4], dtype=pl.Decimal(10, 2)),
    pl.Series("pair", [[1, 2], [3, 4], [5, 6], None], dtype=pl.Array(pl.Int64, 2)),
    pl.Series("kind", ["x", "y", None, "x"], dtype=pl.Categorical),
    pl.col("day").cast(pl.Datetime("ms")).dt.replace_time_zone("Europe/Berlin").alias("moment"),
    pl.lit(datetime.timedelta(1)).alias("span"),
)


def rows(text: str) -> list[int]:
    return TABLE.filter(condition(text, TABLE.schema))["row"].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("row = 1", [1]),
        ("row != 1", [0, 2, 3]),
        ("row <> 1", [0, 2, 3]),
        ("row < 2", [0, 1]),
        ("row <= 2", [0, 1, 2]),
        ("row > 2", [3]),
        ("row >= 2", [2, 3]),
        ("2 <= row", [2, 3]),
        ("row = 1.0", [1]),
        ("row > 0.5 AND row < 2.5", [1, 2]),
        ("row = 0 or row = 1 and price > 0", [0]),
        ("(row = 0 or row = 1) and row = 1", [1]),
        ("row in (1, 2.0, 7)", [1, 2]),
        ("row not in (1, 2)", [0, 3]),
        ("row between 1 and 2", [1, 2]),
        ("row not between 1 and 2", [0, 3]),
        ("price < 2", [0, 3]),
        ("price > -3", [0]),  # NaN is no price
        ("not price < 0", [0]),
        ("price is null", [1]),
        ("price is not null", [0, 2, 3]),
        ("name = 'Pan'", [0]),
        ("name in ('Pan', 'Pot')", [0]),
        ("name like 'P%'", [0]),
        ("name ilike 'P%'", [0, 1]),
        ("name not like 'P%'", [1, 2]),
        ("name like '_a_'", [0]),
        ("name like 'a_b.'", [2]),
        ("name like 'a_b_'", [2]),
        ("name like '%50%'", [1]),
        ("name like 'a'", []),
        ("name > 'a'", [1, 2]),
        ("stock", [0, 3]),
        ("not stock", [1]),
        ("stock = false", [1]),
        ("tags = 'u'", [0]),
        ("tags != 'u'", [1, 3]),
        ("not tags = 'u'", [1, 3]),
        ("tags in ('v', 'w')", [0, 3]),
        ("tags like '_'", [0, 3]),
        ("tags is null", [2]),
        ("paths = 'c'", [0]),
        ("pair = 4", [1]),
        ("pair between 2 and 3", [0, 1]),
        ("day = '2020-01-01'", [0]),
        ("day > '2019-12-31 23:59'", [0, 2]),
        ("day between '1960-01-01' and '1970-01-01'", [3]),
        ("moment = '2020-01-01T00:00:00.000+01:00'", [0]),
        ("moment = '2019-12-31 23:00'", [0]),
        ("moment = '2019-12-31 23:00Z'", [0]),
        ("moment < day", [0, 2, 3]),
        ("maker.id = 2", [1]),
        ('"maker.id" = 2', [1]),
        ('"two words" = 2', [1, 2]),
        ('row = "two words"', [2]),
        ("nothing = 1", []),
        ("not nothing = 1", []),
        ("nothing is null", [0, 1, 2, 3]),
        ("small < 300", [0, 1, 2, 3]),
        ("row > 99999999999999999999999999", []),
        (f"row < 1{'0' * 400}", [0, 1, 2, 3]),
        ("big > 3", [3]),
        ("exact > 3.5", [3]),
        ("kind = 'x'", [0, 3]),
        ("kind like 'x'", [0, 3]),
    ],
)
def test_the_rows_that_satisfy_a_condition(text: str, expected: list[int]) -> None:
    assert rows(text) == expected


def test_a_condition_has_no_missing_values() -> None:
    for text in ("price > 0", "not price > 0", "nothing = 1", "tags = 'u'", "stock"):
        values = TABLE.select(condition(text, TABLE.schema)).to_series()
        assert values.dtype == pl.Boolean
        assert not values.null_count(), text


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("lower(name) = 'pan'", "LOWER(name) = 'pan'"),
        ("row + 1 = 2", "row + 1 = 2"),
        ("row = (select 1)", "SELECT 1"),
        ("row in (select 1)", "row IN (SELECT 1)"),
        ("exists(select 1)", "EXISTS(SELECT 1)"),
        ("row in ()", "row IN ()"),
        ("1 = 1", "1 = 1"),
        ("true", "TRUE"),
        ("row = 'a' || 'b'", "'a' || 'b'"),
        ("row::text = 'a'", "CAST"),
        ("day > date '2020-01-01'", "CAST"),
        ("row is true", "row IS TRUE"),
        ("name like 'a' escape 'b'", "ESCAPE 'b'"),
        ("name like any ('a')", "ANY"),
        ("row between symmetric 1 and 2", "--filter 'row between symmetric 1 and 2'"),
        ("row = ?", "?"),
        ("tags[0] = 'u'", "tags[0] = 'u'"),
        ("*", "*"),
        ("case when stock then stock end", "CASE"),
        ("row = 1; row = 2", "holds ';'"),
        ("if = 1", "double quotes"),
        ("row = null", "Write is null"),
        ("row = 1 -- all", "holds a comment"),
        ("/* all */ row = 1", "holds a comment"),
        ("", "cannot be read"),
        ("row =", "cannot be read at '='"),
        ("row = 1)", "cannot be read at ')'"),
        ("name = 'Pan", "a quote is not closed"),
        ("select 1", "cannot be read at 'select'"),
        ("drop table items", "cannot be read at 'drop'"),
        ("name = 'a\ud800'", "is not text in UTF-8"),
        ("row = 1 and " * 90 + "row = 1", f"at most {LONGEST:,}"),
        ("(" * 400 + "row = 1" + ")" * 400, f"more than {DEEPEST} levels deep"),
        ("not " * 200 + "stock", f"more than {DEEPEST} levels deep"),
        ("name = 1", "compares name with numbers, but name has the type String; write e.g. 'Kitchen'"),
        ("price = 'cheap'", "compares price with text, but price has the type Float64; write e.g. 30"),
        ("stock = 1", "but stock has the type Boolean; write e.g. true"),
        ("day = 2020", "but day has the type Date; write e.g. '2024-01-31'"),
        ("day = 'monday'", "with 'monday', which is no date"),
        ("day = '2020-13-01'", "with '2020-13-01', which is no date"),
        ("tags = 1", "but tags has the type List(String)"),
        ("span = 1", "and cannot be compared"),
        ("row like '1'", "like needs a column of text"),
        ("name = row", "compares name, of type String, with row, of type Int64"),
        ("tags = name", "compares tags, of type List(String), with name"),
        ("name", "compares name with true or false"),
        ("prise < 30", "there is no column 'prise'. Near ones are price."),
        ("Price < 30", "there is no column 'Price'. Near ones are price."),
        ("maker.ix = 1", "there is no column 'maker.ix'. Near ones are maker.id."),
        ("zzz = 1", "there is no column 'zzz'. There are row, price,"),
    ],
)
def test_the_message_shows_what_is_refused(text: str, part: str) -> None:
    with pytest.raises(UserError) as refused:
        condition(text, TABLE.schema, "--filter")
    message = str(refused.value)
    assert message.startswith("--filter")
    assert part in message.replace('\\"', '"')
    assert "\n" not in message


WORDS = r"""row name tags stock day maker.id "two words" = < >= != in not and or ( ) like between is null true
1 -2 1e9 'a' '%_' '2020-01-01' , select case :: [ ] { ; -- interval cast * ² $1 :x @ \ over filter any exists
/* if 0x1 x''"""


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join)))
@settings(max_examples=400, deadline=None)
def test_random_text_is_a_condition_or_a_user_error(text: str) -> None:
    try:
        expression = condition(text, TABLE.schema)
    except UserError:
        return
    assert TABLE.select(expression).to_series().dtype == pl.Boolean
