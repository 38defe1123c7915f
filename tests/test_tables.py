"""Formats of a command's results."""

from __future__ import annotations

import csv
import io
import json
import re
import sys

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from maskgr_cli import console, tables
from maskgr_cli.app import app
from maskgr_cli.diagnosis_table import diagnosis_tables
from maskgr_cli.tables import FORMATS, Column, Table
from pipelines.errors import UserError
from pipelines.schemas import SCHEMAS
from pipelines.workspace import Workspace
from tests.conftest import ROOT
from tests.test_inventory import full as full  # a fixture
from tests.test_inventory import write_embeddings

RUNS = Table(
    "runs",
    "Runs of A & B",
    (
        Column("run", ("name", "best"), lambda name, best: name + " (best)" * best),
        Column("R@10", ("recall@10",), tables.percent),
        Column("users", ("users",), tables.count),
        Column("stale", ("stale",), optional=True),
    ),
    [
        {"name": "a_1", "best": True, "recall@10": 0.05, "users": 22363, "note": "x,\ny", "other": 1},
        {"name": "b", "best": False, "recall@10": None, "users": None, "note": None},
    ],
    "50 % ± 2",
    hidden=("note",),
)
EMPTY = Table("differences", "None", (Column("p", ("p",)),), [])
MORE = Table("runs", "More", RUNS.columns, [{"name": "c", "best": False, "recall@10": 1.0}], hidden=("note",))


def shown(form: str, capsys: pytest.CaptureFixture[str], *results: Table) -> str:
    tables.show(results or (RUNS, EMPTY, MORE), form)
    out, err = capsys.readouterr()
    assert not err
    return out


def test_json_has_raw_values_of_all_results_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(shown("json", capsys))
    keys = ["name", "best", "recall@10", "users", "stale", "note"]
    assert [*content] == ["runs", "differences"]
    assert content["differences"] == []
    assert [[*row] for row in content["runs"]] == [keys] * 3
    assert [*content["runs"][0].values()] == ["a_1", True, 0.05, 22363, None, "x,\ny"]
    assert [row["name"] for row in content["runs"]] == ["a_1", "b", "c"]


def test_csv_has_the_same_values_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.reader(io.StringIO(shown("csv", capsys))))
    assert rows == [
        ["table", "name", "best", "recall@10", "users", "stale", "note", "p"],
        ["runs", "a_1", "true", "0.05", "22363", "", "x,\ny", ""],
        ["runs", "b", "false", "", "", "", "", ""],
        ["runs", "c", "false", "1.0", "", "", "", ""],
    ]


def test_latex_has_the_cells_of_the_table_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown("latex", capsys, RUNS, EMPTY) == (
        "\\begin{table}\n"
        "\\centering\n"
        "\\caption{Runs of A \\& B. 50 \\% $\\pm$ 2}\n"
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "run & R@10 & users \\\\\n"
        "\\midrule\n"
        "a\\_1 (best) & 5.00 & 22,363 \\\\\n"
        "b & --- & --- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


@pytest.mark.parametrize("text", ["\\", "{}", "$x$", "#1", "~", "^", "a_b", "100%", "&"])
def test_latex_obeys_no_character_of_a_cell(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("t", "T", (Column("a", ("a",)),), [{"a": text}])
    cell = shown("latex", capsys, table).splitlines()[7].removesuffix(" \\\\")
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}"):
        cell = cell.replace(command, "")
    assert not re.search(r"(?<!\\)[&%$#_{}~^]", cell)


def test_a_table_leaves_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("table", capsys, RUNS, EMPTY)
    assert "stale" not in text and "None" not in text and "x," not in text
    assert "│ a_1 (best) │ 5.00 │ 22,363 │" in text
    stale = Table("runs", "Runs", RUNS.columns, [{**RUNS.rows[0], "stale": "its items changed"}])
    assert "stale" in shown("table", capsys, stale)
    assert "its items changed" in shown("latex", capsys, stale)


def test_a_cell_equal_to_the_one_above_is_left_out_once(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("run", ("run",), once=True), Column("k", ("k",)))
    rows = [{"run": run, "k": k} for run, k in (("a", 5), ("a", 10), ("b", 5), ("a", 5))]
    table = Table("t", "T", columns, rows)
    assert [row[0] for row in table.cells()] == ["run", "a", "", "b", "a"]
    assert [row["run"] for row in json.loads(shown("json", capsys, table))["t"]] == ["a", "a", "b", "a"]


def test_what_a_terminal_would_obey_is_escaped_for_readers_and_kept_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "x\x1b[2J\x9b\u202e\ny"
    table = Table("t", "T", (Column("a", ("a",)),), [{"a": hostile}])
    assert json.loads(shown("json", capsys, table)) == {"t": [{"a": hostile}]}
    assert [*csv.reader(io.StringIO(shown("csv", capsys, table), newline=""))] == [
        ["table", "a"],
        ["t", hostile],
    ]
    assert r"x\textbackslash{}x1b{[}2J\textbackslash{}x9b" in shown("latex", capsys, table)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for form in FORMATS:
        text = shown(form, capsys, table)
        assert not {"\x1b", "\x9b", "\u202e"} & {*text}


def test_a_cell_in_brackets_is_no_argument_of_the_row_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    """LaTeX takes "[" and "*" behind the end of a row as its arguments."""
    rows = [{"a": text} for text in ("[red]", "*", "<b>", '"a" | b')]
    text = shown("latex", capsys, Table("t", "T", (Column("a", ("a",)),), rows))
    assert text.splitlines()[7:11] == [
        r"{[}red{]} \\",
        r"{*} \\",
        r"\textless{}b\textgreater{} \\",
        r"\textquotedbl{}a\textquotedbl{} \textbar{} b \\",
    ]


def documented_keys(command: str) -> dict[str, set[str]]:
    """Return the keys of a command's results as docs/workspace.md lists them, without those of metrics."""
    text = (ROOT / "docs" / "workspace.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    found, current = {}, ""
    for first, *cells in (row for row in rows if len(row) == 3):
        current = first.strip("`") or current
        if current == command:
            keys = {key.strip() for key in cells[1].split(". ")[0].split(",")} - {"metrics"}
            found |= {name.strip("` "): keys for name in cells[0].split(",")}
    return found


def keys_of(content: dict[str, list[dict[str, object]]]) -> dict[str, set[str]]:
    """Return the keys of results that have rows, without those of metrics."""
    metric = re.compile(r"(recall|ndcg)@|(invalid|duplicate)_rate")
    return {name: {k for k in rows[0] if not metric.match(k)} for name, rows in content.items() if rows}


def command(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_show_prints_fractions_for_programs_and_percent_for_readers(
    full: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKGR_WORKSPACE", str(full.root))
    monkeypatch.setattr(console.out(), "width", 200)
    write_embeddings(full.dataset("toy"), seed=1)
    content = json.loads(command("show", "--format", "json"))
    assert [*content] == ["datasets", "embeddings", "sids", "targets", "runs", "evaluations", "external"]
    documented = documented_keys("show")
    for empty in ("targets", "external"):  # this workspace has none
        assert documented.pop(empty) and content.pop(empty) == []
    documented["evaluations"] -= {"recall@10", "ndcg@10"}  # metrics too
    assert keys_of(content) == documented
    assert content["datasets"] == [
        {
            **{"name": "toy", "current": True, "users": 200, "items": 60, "interactions": 1600},
            **{"split": "leave-one-out", "stale": None},
        }
    ]
    assert content["sids"][0]["stale"] == "its embeddings changed"
    assert content["runs"][0]["validation_recall@10"] == 0.0625
    (evaluation,) = content["evaluations"]
    assert (evaluation["run"], evaluation["evaluation"], evaluation["recall@10"]) == (
        "first",
        "greedy-t3",
        0.0512,
    )
    rows = list(csv.DictReader(io.StringIO(command("show", "--format", "csv"))))
    assert [row["table"] for row in rows] == ["datasets", "embeddings", "sids", "runs", "evaluations"]
    assert rows[-1]["recall@10"] == "0.0512"
    assert "first & greedy-t3 & 200 & 5.12 & 3.01 & its sids changed" in command("show", "--format", "latex")
    one = json.loads(command("show", "first", "--format", "json"))
    documented = documented_keys("show RUN")
    assert {**keys_of(one), **dict.fromkeys(("curves", "targets"))} == {
        **documented,
        **dict.fromkeys(("curves", "targets")),  # of other runs, see tests/views
    }
    assert documented["curves"] == {"measure", "steps", "values"}
    assert {"setting": "train.steps", "value": 7} in one["settings"]
    assert one["evaluations"][0]["recall@10_high"] == 0.06
    assert one["evaluations"][0]["invalid_rate_low"] == 0.2


def test_an_empty_workspace_is_an_empty_result(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MASKGR_WORKSPACE", str(workspace.root))
    content = json.loads(command("show", "--format", "json"))
    results = ("datasets", "embeddings", "sids", "targets", "runs", "evaluations", "external")
    assert content == {name: [] for name in results}
    assert command("show", "--format", "csv").startswith("table,name,current,")
    assert command("show", "--format", "latex") == ""


def test_a_format_that_does_not_exist_is_refused() -> None:
    for arguments, choices in ((["show"], "table, json, csv, latex"), (["tokenize"], "table, json")):
        with pytest.raises(UserError, match=f"--format 'xml' is unknown; choose {choices}."):
            CliRunner().invoke(app, [*arguments, "--format", "xml"], catch_exceptions=False)


def test_the_tables_have_the_values_of_the_artifact_by_its_columns() -> None:
    rows = [
        {"measure": "accuracy", "digit": d, "revealed": r, "value": 0.5 + d / 10 + r / 100}
        for d in (0, 1)
        for r in (0, 1)
    ]
    rows.append({"measure": "joint_loss", "order": "greedy", "evaluations": 2, "value": 0.25})
    columns = {
        name: pa.array([row.get(name) for row in rows], kind) for name, kind in SCHEMAS["diagnosis"].items()
    }
    diagnosis = pa.table({**columns, "users": [7] * len(rows)})
    accuracy, joint = diagnosis_tables("r", diagnosis, "Title")
    assert (accuracy.key, accuracy.heading, joint.key, joint.heading) == (
        "accuracy",
        "Title · 7 users",
        "joint_loss",
        "",
    )
    assert accuracy.rows == [
        {"run": "r", "digit": 0, "revealed_0": 0.5, "revealed_1": 0.51},
        {"run": "r", "digit": 1, "revealed_0": 0.6, "revealed_1": 0.61},
    ]
    assert accuracy.cells()[1:] == [["digit 1", "50.00", "51.00"], ["digit 2", "60.00", "61.00"]]
    assert joint.rows == [{"run": "r", "order": "greedy", "evaluations_2": 0.25}]
    assert joint.cells() == [["", "T = 2"], ["greedy", "0.250"]]
