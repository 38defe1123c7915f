"""Readers: every format is told by its content, rows have their places, and what cannot be read is named."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import UserError
from pipelines.readers import content, json_text
from pipelines.readers.read import read_source, read_table
from pipelines.readers.rows import Reading, Source

HEADER = ("user_id", "item_id", "time")
VALUES = [("007", "x", 3), ("7", "ÿ", 1)]


def parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def separated(separator: str) -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in (HEADER, *VALUES))


OBJECTS = [dict(zip(HEADER, row, strict=True)) for row in VALUES]
TABLES = {  # format, and the properties that are said → content with the rows VALUES
    "CSV, separator ',', UTF-8": separated(","),
    "CSV, separator ';', UTF-8": separated(";"),
    "CSV, separator '|', UTF-8": separated("|"),
    "CSV, separator '::', UTF-8": separated("::"),
    "CSV, separator tab, UTF-8": separated("\t"),
    "CSV, separator blank, UTF-8": separated("  "),
    "CSV, separator ',', Windows-1252": separated(",").encode("cp1252"),
    "CSV, separator ',', UTF-16-LE": separated(",").encode("utf-16"),
    "CSV, separator ',', UTF-16-BE": separated(",").encode("utf-16-be"),
    "CSV, separator ';', UTF-8, gzip": gzip.compress(b"\xef\xbb\xbf" + separated(";").encode()),
    "RecBole, types from the header, UTF-8": separated("\t").replace(
        "\t".join(HEADER), "user_id:token\titem_id:token\ttime:float"
    ),
    "JSON Lines, UTF-8": "\n".join(map(json.dumps, OBJECTS)),
    "JSON, UTF-8": json.dumps(OBJECTS, indent=1),
    "dictionary in JSON, a column to its values, UTF-8": pl.DataFrame(OBJECTS).to_pandas().to_json()
    if False
    else json.dumps(
        {name: {str(i): row[c] for i, row in enumerate(VALUES)} for c, name in enumerate(HEADER)}
    ),
    "lines of Python literals, UTF-8": "\n".join(map(repr, OBJECTS)),
    "Parquet": parquet(pl.DataFrame(OBJECTS)),
    "Parquet, gzip": gzip.compress(parquet(pl.DataFrame(OBJECTS))),
}


def read(tmp_path: Path, data: str | bytes, name: str = "file", how: Reading | None = None) -> Source:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_source(path, how or Reading())


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("name", ["file", "file.csv", "file.json", "file.parquet"])
def test_a_format_is_told_by_the_content(tmp_path: Path, form: str, name: str) -> None:
    source = read(tmp_path, TABLES[form], name)
    assert source.rows.table.rows() == VALUES
    assert source.rows.table.columns == list(HEADER)
    assert source.described() == f"{form}, 2 rows"
    usual = {"file.csv": "CSV", "file.json": "JSON", "file.parquet": "Parquet", "file": ""}[name]
    if name == "file" or usual in form:
        assert not source.remark
    elif "Python" not in form and "RecBole" not in form:
        assert source.remark == f"its name ends with {name[4:]}, but its content is {source.format}"


@pytest.mark.parametrize(
    ("data", "form"),
    [
        ("u1 i1 i2\nu2 i3\n", "sequences, a user and the user's items a line"),
        ("u1\ti1 i2\n\nu2\ti3\n", "sequences, a user and the user's items a line"),
        ("user items\nu1 i1 i2\nu2 i3\n", "sequences, a user and the user's items a line"),
        ("u1 i1\nu1 i2\nu2\ti3\n", "pairs in order, a user and an item a line, no header"),
        ('{"u1": ["i1", "i2"], "u2": ["i3"], "u3": []}', "dictionary in JSON, a user to the user's items"),
        ('{\n "u1": ["i1", "i2"],\n "u2": ["i3"]\n}', "dictionary in JSON, a user to the user's items"),
    ],
)
def test_users_and_items_in_order(tmp_path: Path, data: str, form: str) -> None:
    source = read(tmp_path, data)
    assert source.rows.table.rows() == [("u1", "i1"), ("u1", "i2"), ("u2", "i3")]
    assert source.rows.table.columns == ["user_id", "item_id"]
    assert source.rows.ordered
    assert source.described() == f"{form}, UTF-8, 3 rows"


def test_lines_of_equal_length_are_sequences_where_they_are_long(tmp_path: Path) -> None:
    assert read(tmp_path, "1 2 3 4 5\n2 3 4 5 6\n").format == "sequences"
    assert read(tmp_path, "1 2 3 4\n2 3 4 5\n").rows.headless
    assert read(tmp_path, "1 2\n2 3\n", how=Reading(columns=("item", "user"))).rows.table.columns == [
        "item",
        "user",
    ]


def test_dictionaries_of_items(tmp_path: Path) -> None:
    fields = read(tmp_path, '{"0": {"title": "a", "price": 1.5}, "1": {"title": "b", "price": null}}')
    assert fields.rows.table.rows() == [("0", "a", 1.5), ("1", "b", None)]
    tokens = read(tmp_path, '{"0": ["<a_1>", "<b_2>"], "1": ["<a_1>", "<b_3>"]}')
    assert tokens.rows.table.rows() == [("0", ["<a_1>", "<b_2>"]), ("1", ["<a_1>", "<b_3>"])]
    assert fields.rows.table.columns == ["item_id", "title", "price"]
    assert tokens.rows.table.columns == ["item_id", "tokens"]
    assert (fields.rows.place(1), tokens.rows.place(0)) == ("entry '1'", "entry '0'")


def test_types_of_columns_of_text(tmp_path: Path) -> None:
    columns = {
        "id": ["1", "2", "3"],
        "whole": ["1", "-2", ""],
        "price": ["1.5", "NaN", "1e3"],
        "comma": ["1,5", "2", ""],
        "code": ["01", "2", "3"],
        "flag": ["true", "False", ""],
        "list": ["[1, 2]", "[]", ""],
        "words": ["['a', \"b'c\"]", '["d,e"]', ""],
        "mixed": ["1", "x", ""],
        "long": ["9" * 25, "1", ""],
    }
    table = read(tmp_path, pl.DataFrame(columns).write_csv(separator=";")).rows.table
    assert {name: table[name].to_list() for name in table.columns} == {
        "id": ["1", "2", "3"],
        "whole": [1, -2, None],
        "price": [1.5, None, 1000.0],
        "comma": [1.5, 2.0, None],
        "code": ["01", "2", "3"],
        "flag": [True, False, None],
        "list": [[1, 2], [], None],
        "words": [["a", "b'c"], ["d,e"], None],
        "mixed": ["1", "x", None],
        "long": [1e25, 1.0, None],
    }


def test_types_of_recbole(tmp_path: Path) -> None:
    data = "item_id:token\ttitle:token_seq\tgenres:token_seq\ttags:token_seq\tprice:float\tv:float_seq\n"
    table = read(tmp_path, data + '01\tred mug\ta b\tc d, e\t1.5\t0.5 1\n02\t"odd\t\t\tx\t\n').rows.table
    assert table.rows() == [
        ("01", "red mug", ["a", "b"], ["c d", "e"], 1.5, [0.5, 1.0]),
        ("02", '"odd', None, None, None, None),
    ]


def test_nested_objects_become_columns(tmp_path: Path) -> None:
    data = '{"user": {"id": 1, "home": {"town": "a"}}, "user.id": 2, "l": [{"a": 1}]}\n{"user": null}\n'
    table = read(tmp_path, data).rows.table
    assert table.drop("l").to_dicts() == [
        {"user.id_": 1, "user.home.town": "a", "user.id": 2},
        {"user.id_": None, "user.home.town": None, "user.id": None},
    ]


@pytest.mark.parametrize(
    ("data", "places", "unread"),
    [
        ("a,b\n1,2\n\n3,4\n", ["line 2", "line 4"], []),
        ('a,b\n\n1,"2\n3"\n3,4\n', ["line 3", "line 5"], []),
        ("a,b\r1,2\r3,4\r", ["line 2", "line 3"], []),
        ("a,b\n1,2\n3\n4,5\n6,7,8\n9,9\n", ["line 2", "line 4", "line 6"], ["line 3", "line 5"]),
        ('a,b\n1,"2\n 3"\n4\n5,6\n', ["line 2", "line 5"], ["line 4"]),
        ("a::b\n1::2\n3\n4::5\n", ["line 2", "line 4"], ["line 3"]),
        ('{"a": 1}\n\n{"a": 2}\n', ["line 1", "line 3"], []),
        ('{"a": 1}\nno\n{"a": 2}\n{"a"\n', ["line 1", "line 3"], ["line 2", "line 4"]),
        ("{'a': 1}\n{'a': {1}}\n\n{'a': 2}\n", ["line 1", "line 4"], ["line 2"]),
        ('[{"a": 1}, {"a": 2}]', ["entry 1", "entry 2"], []),
        ("u i1 i2\n\nv i3\n", ["line 1", "line 1", "line 3"], []),
        ('{"u": ["i1"], "v": ["i3"]}', ["entry 'u'", "entry 'v'"], []),
    ],
)
def test_places_of_rows(tmp_path: Path, data: str, places: list[str], unread: list[str]) -> None:
    source = read(tmp_path, data)
    assert [source.rows.place(row) for row in range(len(source.rows.table))] == places
    assert [line.place for line in source.rows.unread] == unread
    if unread:
        with pytest.raises(UserError, match=rf"{len(unread)} rows .*, first {unread[0]}: "):
            read_table(tmp_path / "file")


@pytest.mark.parametrize(
    ("data", "values"),
    [
        ('a,b\nx,"y\nz,w\nv,u\n', ["x", '"y', "z", "w", "v", "u"]),  # a quote without an end
        ('a\tb\nx\t5" z\n"y\tw\n', ["x", '5" z', '"y', "w"]),
        ('a,b\nx,"y"" z"\n"v, w",u\n', ["x", 'y" z', "v, w", "u"]),
    ],
)
def test_quotes(tmp_path: Path, data: str, values: list[str]) -> None:
    source = read(tmp_path, data)
    assert [value for row in source.rows.table.rows() for value in row] == values
    assert ("quotes are part of the fields" in source.described()) == ('"y' in values)


def test_nan_in_json_is_missing(tmp_path: Path) -> None:
    assert read(tmp_path, '{"a": NaN}\n{"a": 2.5}\n').rows.table["a"].to_list() == [None, 2.5]


def test_fields_of_several_types_in_json(tmp_path: Path) -> None:
    rows = [{"a": {"b": 1}, "c": True, "d": 1}, {"a": 2, "c": 3, "d": 2.5}, {"a": None, "c": "x"}]
    expected = [('{"b": 1}', "true", 1.0), ("2", "3", 2.5), (None, "x", None)]
    for data in (json.dumps(rows), "\n".join(map(json.dumps, rows)), "\n".join(map(repr, rows))):
        assert read(tmp_path, data).rows.table.rows() == expected
    deep = [{"a": {"b": {"c": 1}}}, {"a": {"b": 2}}]
    assert read(tmp_path, json.dumps(deep)).rows.table.rows() == [('{"b": {"c": 1}}',), ('{"b": 2}',)]


def test_names_of_columns(tmp_path: Path) -> None:
    assert read(tmp_path, ",a,a,\n1,2,3,4\n").rows.table.columns == ["column_1", "a", "a_", "column_4"]
    headless = read(tmp_path, "u,1,2020-01-01\nv,2,2020-01-02\n").rows
    assert headless.headless
    assert headless.table.columns == ["column_1", "column_2", "column_3"]
    assert read(tmp_path, "u,x\nu,y\n").rows.headless  # no name stands in its column again
    how = Reading(columns=("User", "item"))
    for data in ("u,x\nv,y\n", "user,item\nu,x\nv,y\n"):
        rows = read(tmp_path, data, how=how).rows
        assert (rows.headless, rows.table.columns, len(rows.table)) == (False, ["User", "item"], 2)


def test_an_encoding_that_is_named(tmp_path: Path) -> None:
    data = "title,x\n蓝桌子,1\n黑系列,2\n".encode("gb18030")
    with pytest.raises(UserError, match=r"line 2 is not UTF-8: .*--encoding, e.g. gb18030"):
        read(tmp_path, data)
    source = read(tmp_path, data, how=Reading(encoding="gb18030"))
    assert source.rows.table["title"].to_list() == ["蓝桌子", "黑系列"]
    assert "GB18030" in source.described()
    with pytest.raises(UserError, match="is not text in SHIFT_JIS|is not text in shift_jis"):
        read(tmp_path, b"title\n\xff\xff", how=Reading(encoding="shift_jis"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "holds no rows"),
        (" \n\n", "holds no rows"),
        ("a,b\n", "holds no rows"),
        ("[]", "is no list of objects .*: it has other entries, or none"),
        ('["a"]\n["b"]\n', "is no list of objects .*: Extra data in line 2, column 1"),
        ('[{"a": 1},\n {"b" 2}]', "is no list of objects .*: Expecting ':' delimiter in line 2, column 7"),
        ('"a', "holds no rows"),
        ("a,b,c\n" + "1,2\n" * 20, "rows have 2 fields, and the header has another number of names: 'a,b,c'"),
        ('{"a\n', "no line is an object"),
        (b"PK\x03\x04", "is a zip archive or an Excel workbook. Export it"),
        ("<!DOCTYPE html>", "is an HTML page"),
        (b"a,b\n\0\1\2,\xff\n" * 9, "is neither text nor a readable Parquet file"),
        (b"PAR1 not really", "is not a readable file of the format Parquet"),
        (gzip.compress(b"a,b\n1,2\n" * 50, mtime=0)[:-20], "is not a readable gzip file"),
        ("a\0b,c\n1,2\n", "the column 'a.x00b' has a NUL in its name"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}\n", "line 1 is nested more than 32 levels deep"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, data: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, data)


def test_columns_of_another_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 2 columns; --columns names 1"):
        read(tmp_path, "1,2\n3,4\n", how=Reading(columns=("user",)))


def test_a_file_that_is_missing_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(UserError, match="none does not exist or is not a file"):
        read_table(tmp_path / "none")
    monkeypatch.setattr(content, "open", refuse, raising=False)
    with pytest.raises(UserError, match=r"file cannot be read \(Permission denied\)"):
        read(tmp_path, "a,b\n1,2\n")


def test_a_panic_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("not yet implemented")

    monkeypatch.setattr(json_text.pl, "read_ndjson", panic)
    with pytest.raises(UserError, match=r"not a readable file of the format JSON Lines \(not yet impl"):
        read(tmp_path, '{"a": 1}\n{"a": 2}\n')


def test_a_long_literal_is_refused(tmp_path: Path) -> None:
    long = "{'a': '" + "b" * content.LONGEST_LITERAL + "'}"
    assert [line.place for line in read(tmp_path, f"{{'a': 'c'}}\n{long}\n").rows.unread] == ["line 2"]
