"""The Recall/NDCG table at several widths."""

from __future__ import annotations

import pyarrow as pa
import pytest

from maskgr_cli import console, tables
from maskgr_cli.metrics_table import metrics_table


def metrics(cutoffs: list[int], value: float = 0.04312, users: int = 22363) -> pa.Table:
    keys = [(name, k) for k in cutoffs for name in ("ndcg", "recall")] + [
        ("duplicate_rate", None),
        ("invalid_rate", None),
    ]
    rows = [
        {"metric": m, "k": k, "value": value, "low": value - 0.0026, "high": value + 0.0028, "users": users}
        for m, k in reversed(keys)
    ]
    return pa.Table.from_pylist(rows)


def shown(
    width: int, rows: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[list[str]]:
    monkeypatch.setattr(console.out(), "width", width)
    systems = [({"run": name}, table) for name, table in rows]
    tables.show([metrics_table("metrics", systems, "Beauty", "test split")], "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Beauty"
    assert all(len(line) <= width for line in lines)
    return [
        [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")]
        for line in lines
        if line[0] in "┃│"
    ] + [[lines[-1]]]


def test_one_row_per_system_on_a_wide_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header, first, second, caption = shown(
        120, [("maskgr", metrics([5, 10])), ("popularity", metrics([5], 0.01))], monkeypatch, capsys
    )
    assert header == [
        "",
        "R@5",
        "R@10",
        "N@5",
        "N@10",
        "invalid",
        "duplicate",
    ]  # 20 and 40 are not defined and left out
    assert first == ["maskgr"] + ["4.31 ±0.27"] * 4 + ["4.31"] * 2
    assert second == ["popularity", "1.00 ±0.27", "—", "1.00 ±0.27", "—", "1.00", "1.00"]
    assert caption[0].startswith("test split · 22,363 users · percent")


def test_intervals_below_the_values_where_one_line_is_too_wide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header, values, intervals, _ = shown(100, [("maskgr", metrics([40, 20, 10, 5]))], monkeypatch, capsys)
    assert header == ["", *(f"{m}@{k}" for m in "RN" for k in (5, 10, 20, 40)), "invalid", "duplicate"]
    assert values == ["maskgr"] + ["4.31"] * 10
    assert intervals == [""] + ["±0.27"] * 8 + ["", ""]


def test_one_row_per_metric_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = shown(
        60, [("maskgr", metrics([5, 10, 20])), ("popularity", metrics([5], users=9))], monkeypatch, capsys
    )
    assert table[0] == ["", "maskgr", "popularity"]
    assert table[1] == ["R@5", "4.31 ±0.27", "4.31 ±0.27"]
    assert table[2] == ["R@10", "4.31 ±0.27", "—"]
    assert [row[0] for row in table[1:9]] == [
        "R@5",
        "R@10",
        "R@20",
        "N@5",
        "N@10",
        "N@20",
        "invalid",
        "duplicate",
    ]


def test_values_without_an_interval(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paper = pa.table(
        {
            "metric": ["recall"],
            "k": [5],
            "value": [0.0538],
            "low": pa.nulls(1),
            "high": pa.nulls(1),
            "users": [22363],
        }
    )
    header, row, _ = shown(100, [("paper", paper)], monkeypatch, capsys)
    assert (header, row) == (["", "R@5"], ["paper", "5.38"])
