"""`maskgr ensemble`: a committee of trained runs."""

from __future__ import annotations

from typing import Annotated

import typer

from maskgr_cli import console, launch
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import WorkspaceOption
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(ensemble)


def ensemble(
    name: Annotated[str, typer.Argument(help="Name of the committee.", show_default=False)],
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Runs, two or more: its members.", show_default=False)
    ],
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            help="Weights of the members: equal; numbers, with commas between; or validation, the best on "
            "half of the validation users, if they are better than equal ones on the other half by more than "
            "the 95 % interval.",
        ),
    ] = "equal",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a committee of that name, with its evaluations.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Make a committee of trained runs, whose distribution is the geometric mean of theirs.

    The members may differ in seed, sizes, semantic IDs and model. The committee is a run: it holds copies of
    their weights and is evaluated, used and exported like any other.
    """
    store = Workspace.find(workspace)
    keep_freed_memory()
    from maskgr_cli.run_tables import members_table
    from maskgr_cli.tables import show
    from pipelines.train.committee import make_committee

    run = make_committee(store, name, runs, weights, launch.progress(), force=force)
    config = run.read_config()
    show([members_table(name, config)], "table")
    if run.is_final:
        console.note(f"Next: maskgr recommend {name}; maskgr export {name}")
    else:
        console.note(f"Next: maskgr eval {name}; maskgr train --distill {name}")
