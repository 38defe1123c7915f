"""`maskgr data`: write a prepared data set for another program, and remove users from one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.options import DatasetOption, WorkspaceOption, checked, config_options
from pipelines.export.config import ExportConfig
from pipelines.options import check_path
from pipelines.recommend.config import identifiers
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.housekeeping.forget import Forgotten


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Exchange data sets with other programs, and remove users.", no_args_is_help=True
    )
    group.command()(export)
    group.command()(forget)
    app.add_typer(group, name="data")


@config_options(ExportConfig)
def export(
    settings: dict[str, Any],
    name: Annotated[str, typer.Argument(help="Name of the data set.")],
    output: Annotated[Path, checked("--output", "Folder of the files.", check_path)],
    workspace: WorkspaceOption = None,
) -> None:
    """Write a data set for another program: the same users, items and interactions, ready to compare.

    Identifiers are those of the import. The column position is the place of an interaction in the user's
    sequence. With --split, each interaction is in the file of its part: users' last items test and those
    before validate; with a temporal split the time decides.
    """
    config = ExportConfig(**settings)
    dataset = Workspace.find(workspace).require_dataset(name)
    from pipelines.export.build import export_dataset

    for path in export_dataset(dataset, config, output):
        console.result(str(path))
    console.note("Measure the lists of the other program with: maskgr eval --recommendations FILE")


def forget(
    user: Annotated[
        list[str],
        typer.Option(
            "--user", metavar="ID", help="User, as imported; several times, or @FILE with one id per line."
        ),
    ],
    dataset: DatasetOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Remove users from a data set: their interactions, their sequences, and their rows in evaluations.

    Items stay, with their numbers, vectors and codes. Runs keep the weights that they learned from the users;
    the command names them and how to train them again, and the files that have the users still.
    """
    users = [name for text in user for name in (identifiers("--user", text) if text[:1] == "@" else [text])]
    store = Workspace.find(workspace)
    data = store.require_dataset(dataset)
    from pipelines.housekeeping.forget import forget_users, rows_of_users

    count = len(rows_of_users(data, users))
    named = f"{count:,} user{'s' * (count != 1)}"
    if not yes and not console.confirmed(f"Remove {named} from {data.name} for good?"):
        console.note("Nothing is removed.")
        return
    for line in _account_of(forget_users(store, data.name, users), named, data.name):
        console.result(line)


def _account_of(forgotten: Forgotten, named: str, dataset: str) -> list[str]:
    """Return what was removed and what is left to do, line by line."""
    lines = [f"Removed {named} with {forgotten.interactions:,} interactions from {dataset}."]
    if forgotten.rare:
        lines.append(
            f"{forgotten.rare:,} items now have fewer than {forgotten.min_count} interactions. They stay, so "
            "that no item's number or code moves."
        )
    if forgotten.pruned:
        lines.append("Evaluations without the rows of these users, stale since their metrics count them:")
        lines += [f"  {name}" for name in forgotten.pruned]
    if forgotten.unassigned:
        lines.append(
            "Evaluations of an earlier version, whose rows cannot be assigned to users. Remove them:"
        )
        lines += [f"  maskgr rm {name}" for name in forgotten.unassigned]
    if forgotten.embeddings:
        lines.append("Embeddings made from the interactions of all users. Make them, and their SIDs, again:")
        lines += [
            f"  maskgr embed --dataset {dataset} --encoder interactions --name {name} --force"
            for name in forgotten.embeddings
        ]
    if forgotten.commands:
        lines.append(
            "Runs keep the weights that they learned from these users. Train them again, or remove them:"
        )
        lines += [f"  {command}" for command in forgotten.commands.values()]
    if forgotten.others:
        lines.append(f"Other data sets with users of these ids: {', '.join(forgotten.others)}.")
    if forgotten.files:
        lines.append("Files that have, or may have, these users still; importing them brings the users back:")
        lines += [f"  {path}" for path in forgotten.files]
    lines.append(
        "Exports and recommendations outside of the workspace are not recorded: look for them yourself."
    )
    return lines
