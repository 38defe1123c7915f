"""`maskgr doctor`: check the installation, the machine and the workspace."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from maskgr_cli import allocator, console, tables
from maskgr_cli.commands.rm import size_in_words
from maskgr_cli.options import WorkspaceOption
from maskgr_cli.tables import Column, ShortFormatOption, Table, count
from pipelines.errors import UserError
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.doctor.report import Fact, Problem

PACKAGES = (Column("package", ("name",)), Column("version", ("version",)), Column("needed", ("needed",)))
FACTS = (
    Column("fact", ("name",)),
    Column("value", ("value", "unit"), lambda value, unit: size_in_words(value) if value and unit else value),
)
SIZES = (
    Column("content", ("kind",)),
    Column("number", ("count",), count),
    Column("size", ("bytes",), size_in_words),
)
IN_USE = (Column("folder", ("folder",)), Column("work", ("work",)))
PROBLEMS = tuple(Column(key, (key,)) for key in ("kind", "subject", "reason", "command"))


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(format: ShortFormatOption = "table", workspace: WorkspaceOption = None) -> None:
    """Check packages, devices and the workspace, and print the command that mends each problem.

    The exit code is 1 if something is broken. What is stale, unfinished or left over is listed and does not
    change the exit code.
    """
    from pipelines.doctor import machine

    shown: list[Table] = []

    def add(key: str, title: str, columns: Sequence[Column], rows: Sequence[Any]) -> None:
        """Print a table at once, or keep it for the one object in JSON."""
        shown.append(Table(key, title, columns, [asdict(row) for row in rows]))
        if format == "table":
            tables.show(shown[-1:], format)

    root, unusable = _workspace(workspace)
    packages, problems = machine.packages()
    add("packages", "Packages", PACKAGES, packages)
    facts, found = machine.machine(root)
    add("machine", "Machine", FACTS, [*facts, _kept_memory()])
    problems += found + unusable
    problems += _check_workspace(None if unusable else Workspace(root), add)
    facts, found = machine.devices()
    add("devices", "Devices", FACTS, facts)
    problems = [_in_workspace(problem, workspace) for problem in found + problems]
    if format == "table":
        for line in [line for problem in problems for line in _worded(problem)] or ["No problem was found."]:
            console.result(line)
    else:
        tables.show([*shown, Table("problems", "", PROBLEMS, [asdict(p) for p in problems])], format)
    if any(problem.kind == "broken" for problem in problems):
        raise typer.Exit(1)


def _workspace(option: Path | None) -> tuple[Path, list[Problem]]:
    """Return the folder of the workspace, and the problem if it cannot be used."""
    from pipelines.doctor.report import BROKEN, Problem

    try:
        return Workspace.find(option).root, []
    except UserError as error:
        return Workspace.path(option), [
            Problem(BROKEN, "workspace", str(error), "maskgr doctor --workspace …")
        ]


def _check_workspace(workspace: Workspace | None, add: Callable[..., None]) -> list[Problem]:
    """Add the tables of a workspace, empty ones if it cannot be used, and return its problems."""
    if workspace is None:
        for key, columns in (("workspace", FACTS), ("sizes", SIZES), ("in_use", IN_USE)):
            add(key, "", columns, [])
        return []
    from pipelines.doctor import state

    facts, problems = state.facts(workspace)
    add("workspace", "Workspace", FACTS, facts)
    add("sizes", "Content", SIZES, state.sizes(workspace))
    add("in_use", "In use", IN_USE, state.in_use(workspace))
    return problems + state.problems(workspace)


def _kept_memory() -> Fact:
    from pipelines.doctor.report import Fact

    allocator.keep_freed_memory()
    return Fact("freed memory", "kept" if allocator.keeps_freed_memory() else "returned to the system")


def _in_workspace(problem: Problem, option: Path | None) -> Problem:
    """Return a problem whose command names the workspace that the user named."""
    if option is None or not problem.command.startswith("maskgr ") or "--workspace" in problem.command:
        return problem
    return replace(problem, command=f"{problem.command} --workspace {shlex.quote(str(option))}")


def _worded(problem: Problem) -> list[str]:
    return [f"{problem.kind}: {problem.subject}: {problem.reason}", f"    {problem.command}"]
