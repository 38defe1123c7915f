"""What a person sees: tables, notes, errors and progress bars."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from rich.console import Console
from typer.testing import CliRunner

from maskgr_cli import console, launch
from maskgr_cli.app import app
from pipelines.progress import Silent
from pipelines.workspace import Workspace
from tests.conftest import ROOT

BRACKETS = "[bold]name[/bold] :smile: [/oops]"  # Rich markup and emoji codes, were they read as such


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 200 columns in place of standard error."""
    screen = io.StringIO()
    fake = Console(
        file=screen,
        force_terminal=True,
        width=200,
        highlight=False,
        markup=False,
        emoji=False,
        color_system=None,
    )
    monkeypatch.setattr(console, "err", lambda: fake)
    return screen


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "", "PYTHONIOENCODING": "utf-8", **environment},
    )


def test_results_go_to_standard_output_and_the_rest_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.table("Title", ["system", "R@5"], [["popularity", 1.5], ["maskgr", None]], "a caption")
    console.note("a note")
    console.error("bad value")
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].strip() == "Title" and lines[-1].strip() == "a caption"
    assert (
        "│ popularity │ 1.5 │" in lines and "│ maskgr     │   — │" in lines
    )  # first column left, others right, None a dash
    assert err.splitlines() == ["a note", "error: bad value"]


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(BRACKETS, ["system", BRACKETS], [[BRACKETS, 1]], BRACKETS)
    console.note(BRACKETS)
    console.error(BRACKETS)
    out, err = capsys.readouterr()
    assert out.count(BRACKETS) == 4 and err.count(BRACKETS) == 2


@pytest.mark.parametrize(
    "control",
    ["\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "\x7f", "\r", "\u202e", "\u2066", "\ud800", "\u2028"],
    ids=ascii,
)
def test_what_a_terminal_would_obey_is_shown_escaped(
    control: str, capsys: pytest.CaptureFixture[str], terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every way that text comes to the terminal."""
    text = f"item {control} text"
    with console.RichProgress().task(text, 10, "users") as task:
        task.update(3, note=text)
    console.note(text)
    console.error(text)
    console.table(text, ["system", text], [[text, 1]], text)
    console.result(text)
    out, err = capsys.readouterr()
    escaped = control.encode("unicode_escape").decode()
    assert control not in out + err and out.count(f"item {escaped} text") == 5
    drawn = terminal.getvalue()
    assert f"error: item {escaped} text\n" in drawn and drawn.count(f"item {escaped} text") >= 4
    assert control == "\r" or control not in drawn  # Rich itself goes back to the line's start


def test_an_error_and_a_note_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("column 'a\nb'")
    console.note("column a\nerror: none")
    console.table("Title", ["a"], [[["1", "2"]], ["3\n4"]])
    console.result("a\nerror: none")
    out, err = capsys.readouterr()
    assert err == "error: column 'a\\nb'\ncolumn a\\nerror: none\n"
    assert "│ 1    │" in out and "│ 2    │" in out  # a list has lines
    assert r"│ 3\n4 │" in out
    assert out.splitlines()[-1] == r"a\nerror: none"


def test_data_is_escaped_on_a_terminal_only(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "id,title\n1,\u202e \x1b[2J \x9b عبر\u200f"
    console.data(text)
    assert capsysbinary.readouterr().out.decode() == f"{text}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console.data(text)
    shown = "id,title\n1,\\u202e \\x1b[2J \\x9b عبر\\u200f\n"
    assert capsysbinary.readouterr().out.decode() == shown


def test_a_question_shows_names_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO("y\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert console.confirmed("runs/\x1b[2J\nRemove it?")
    assert "runs/\\x1b[2J\nRemove it?" in capsys.readouterr().err


def test_words_of_any_language_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    text = "naïve 日本語 עברית 🙂 — … a\u00a0b می\u200cخواهم 👩\u200d🚀"
    console.note(text)
    assert capsys.readouterr().err == f"{text}\n"


def test_long_messages_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("a/very/long/path " * 30)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_table_in_a_file_is_wide_unless_told_otherwise() -> None:
    code = "from maskgr_cli import console; console.table('', ['x' * 60, 'y' * 60], [])"
    assert "x" * 60 in run(code).stdout
    assert "x" * 60 not in run(code, COLUMNS="80").stdout


@pytest.mark.parametrize(("unit", "expected"), [("users", "3/10 users"), ("bytes", "3/10 bytes")])
def test_a_task_shows_what_is_done_and_the_note(terminal: io.StringIO, unit: str, expected: str) -> None:
    with console.RichProgress().task(f"Work {BRACKETS}", 10, unit) as task:
        task.advance(2)
        task.update(3, note=f"loss 3.2 {BRACKETS}")
    shown = terminal.getvalue()
    assert expected in shown and BRACKETS in shown and "loss" in shown


def test_tasks_nest_and_messages_pass_above_them(terminal: io.StringIO) -> None:
    progress = console.RichProgress()
    with progress.task("Training", None, "steps") as outer:
        with progress.task("Validating", 5, "users") as inner:
            inner.advance(5)
            progress.say("validated")
        outer.advance()
    assert "validated\n" in terminal.getvalue()


def test_without_a_terminal_only_messages_appear(capsys: pytest.CaptureFixture[str]) -> None:
    progress = console.RichProgress()
    with progress.task("Work", 10, "users") as task:
        task.advance(10)
        progress.say("half way")
    assert capsys.readouterr() == ("", "half way\n")


def test_an_error_inside_a_task_passes_through(terminal: io.StringIO) -> None:
    with pytest.raises(KeyError), console.RichProgress().task("Work", 10, "users"):
        raise KeyError
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back


def test_help_keeps_what_stands_in_brackets(maskgr: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    shown = maskgr("tokenize", "--help", COLUMNS="200")
    assert shown.returncode == 0
    assert shown.stdout.count("[default:") >= 5


def test_quiet_leaves_results_and_errors(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(console.QUIET, "1")
    progress = console.RichProgress()
    console.note("a note")
    progress.say("a message")
    with progress.task("Work", 10, "users") as task:
        task.advance(10)
    assert terminal.getvalue() == ""
    console.error("bad value")
    console.table("Title", ["a"], [[1]])
    assert terminal.getvalue() == "error: bad value\n"
    assert "Title" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "environment", "quiet"),
    [
        ([], None, False),
        (["--quiet"], None, True),
        ([], "1", True),
        ([], "0", False),
        (["--quiet"], "0", True),
    ],
)
def test_quiet_is_an_option_before_the_command_or_a_variable(
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    environment: str | None,
    quiet: bool,
) -> None:
    monkeypatch.setenv(console.QUIET, "0")  # undone after the test, whatever the program sets
    command = [*options, "show", "--format", "json", "--workspace", str(workspace.root)]
    done = CliRunner().invoke(app, command, env={console.QUIET: environment}, catch_exceptions=False)
    assert (done.stderr == "") == quiet
    assert json.loads(done.stdout)["runs"] == []


@pytest.mark.parametrize(
    ("environment", "silent"),
    [({"RANK": "1"}, False), ({"LOCAL_RANK": "1", "RANK": "1"}, True), ({"LOCAL_RANK": "0"}, False)],
)
def test_only_a_later_process_of_a_launcher_is_silent(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], silent: bool
) -> None:
    """A variable RANK that other programs set, without a launcher's LOCAL_RANK, changes nothing."""
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert isinstance(launch.progress(), Silent) == silent
