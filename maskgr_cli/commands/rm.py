"""`maskgr rm`: remove parts of the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from maskgr_cli import console
from maskgr_cli.options import WorkspaceOption
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.housekeeping.parts import Part

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def register(app: typer.Typer) -> None:
    app.command()(rm)


def rm(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Paths in the workspace: runs/RUN, runs/RUN/eval/DECODING, datasets/NAME, "
            "datasets/NAME/embeddings/E, datasets/NAME/sids/S, datasets/NAME/external/L, "
            "comparisons/DECODING/A/B, studies/STUDY, reports/REPORT, downloads/NAME.",
        ),
    ],
    with_dependents: Annotated[
        bool,
        typer.Option(
            "--with-dependents", help="Remove also what was made from it, e.g. the runs of a data set."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Remove runs, data sets, embeddings, SIDs, evaluations, reports and studies.

    What lies inside goes with it: the evaluations of a run, the embeddings and SIDs of a data set. What was
    made from it and lies elsewhere, such as the runs of a data set, is named and protects it.
    """
    store = Workspace.find(workspace)
    from pipelines.housekeeping.remove import remove, to_remove

    parts = to_remove(store, names, with_dependents)
    sizes = {part: part.size for part in parts}
    if not yes and not console.confirmed(_question(sizes)):
        console.note("Nothing is removed.")
        return
    remove(store, parts)
    named = parts[0].name if len(parts) == 1 else f"{len(parts)} parts of {store.root}"
    console.note(f"Removed {named} ({size_in_words(sum(sizes.values()))}).")


def _question(sizes: dict[Part, int]) -> str:
    """Return the question about parts of known sizes; several parts have a line each."""
    lines = [f"{part.name} ({size_in_words(size)})" for part, size in sizes.items()]
    if len(lines) == 1:
        return f"Remove {lines[0]}?"
    return "\n".join([*lines, f"Remove these {len(lines)} parts ({size_in_words(sum(sizes.values()))})?"])


def size_in_words(size: int) -> str:
    """Return a number of bytes in the largest unit of which there is at least one: "1.2 MiB"."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.{int(unit > 0)}f} {UNITS[unit]}"
