"""`maskgr recommend`: recommendations of a trained run to users, histories, or everyone."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console, launch, recommendations
from maskgr_cli.allocator import keep_freed_memory
from maskgr_cli.options import GpusOption, ProcessesOption, WorkspaceOption, checked, config_options
from maskgr_cli.warned import warnings_as_notes
from pipelines.decode.config import Decoding
from pipelines.errors import UserError, enough_memory
from pipelines.options import check_number, check_path, has_no_effect, quoted
from pipelines.recommend.config import RecommendConfig, identifiers
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.recommend.histories import Histories
    from pipelines.recommend.items import ItemTable
    from pipelines.recommend.model import Model, Query

MATCHES = 20  # titles that --like shows
RECENT = 3  # items of a history that a title shows


def register(app: typer.Typer) -> None:
    app.command()(recommend)


@config_options(RecommendConfig, Decoding)
def recommend(
    settings: dict[str, Any],
    run: Annotated[
        str | None,
        typer.Argument(help="Run, folder of a bundle, or hf:OWNER/NAME.", show_default="the newest"),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="User of the data set, as imported.")] = None,
    history: Annotated[
        str | None, typer.Option("--history", help="Item ids, oldest first, with commas between.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", help="An item whose title contains this text, as the history.")
    ] = None,
    source: Annotated[
        Path | None,
        checked(
            "--from",
            "Histories in a CSV, JSON Lines or Parquet file: a row for each user and item, or a list of "
            "items for each user.",
            check_path,
        ),
    ] = None,
    sample: Annotated[
        int | None,
        checked("--sample", "So many users of the data set, drawn with --seed.", check_number, 1, 1000),
    ] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="All users of the data set, into a Parquet file (--output).")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how the digits of each recommendation were revealed.")
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"Output: {', '.join(recommendations.FORMATS)}.",
            show_default="table, or by the suffix of --output",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        checked("--output", "File for the recommendations.", check_path, show_default="standard output"),
    ] = None,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Recommend items to a user, to a history, to the users of a file, or to everyone.

    Where a run has a final run (maskgr train --final RUN), the final run recommends. Filters act inside the
    search: as many items come as asked for if so many qualify. A history without a known item gets the most
    popular items that qualify.
    """
    given = {"--user": user, "--history": history, "--like": like, "--from": source, "--sample": sample}
    _check_choice([flag for flag, value in given.items() if value is not None], all_users)
    if not all_users and (gpus is not None or processes is not None):
        raise UserError("--gpus and --processes share the users of --all-users. Leave them out.")
    kind = recommendations.choose_format(format, output)
    if all_users and (kind != "parquet" or output is None):
        raise UserError("--all-users writes Parquet: give --output FILE.parquet.")
    if explain and (all_users or kind == "csv"):
        raise has_no_effect(["--explain"], "--all-users" if all_users else "--format csv")
    own = {f.name for f in dataclasses.fields(RecommendConfig)}
    config = RecommendConfig(**{name: value for name, value in settings.items() if name in own})
    decoding = Decoding(**{name: value for name, value in settings.items() if name not in own})
    chosen = run or launch.find_workspace(workspace).require_run(None).name
    if launch.relaunch(gpus, processes):
        return
    keep_freed_memory()
    from pipelines.recommend.load import load

    advice = f"Lower --beams ({decoding.beams:,}), or recommend to fewer users at a time."
    with warnings_as_notes(), enough_memory("recommend", advice):
        model = load(chosen, workspace=Workspace.path(workspace), progress=launch.progress())
        allow, deny = (
            identifiers(flag, text) if text else None
            for flag, text in (("--allow", config.allow), ("--deny", config.deny))
        )
        query = model.query(
            decoding, config.k, where=config.where, allow=allow, deny=deny, diversity=config.diversity
        )
        if all_users:
            assert output, "checked above"
            _recommend_to_everyone(model, query, output)
            return
        histories = _histories(model, user, history, like, source, (sample, decoding.seed))
        if kind == "table":
            _show(model, query, histories, explain)
            if sample:
                _show_next(model)
        else:
            recommendations.write(model.answer(query, histories, explain=explain), kind, output)


def _check_choice(flags: list[str], all_users: bool) -> None:
    """Check that exactly one option says for whom recommendations are made."""
    flags = [*flags, *["--all-users"] * all_users]
    if not flags:
        raise UserError(
            "Recommendations for whom? Give one of --user, --history, --like, --from, --sample and "
            "--all-users."
        )
    if len(flags) > 1:
        raise UserError(f"{' and '.join(flags)} exclude each other. Give one of them.")


def _recommend_to_everyone(model: Model, query: Query, output: Path) -> None:
    from pipelines.processes import Processes
    from pipelines.recommend.everyone import recommend_to_everyone

    shared = Processes.started() if launch.is_worker() else Processes()
    recommend_to_everyone(model, output, query, launch.progress(), shared)


def _histories(
    model: Model,
    user: str | None,
    history: str | None,
    like: str | None,
    source: Path | None,
    sample: tuple[int | None, int],
) -> Histories:
    """Return the histories that the options name; a sample is a number of users and a seed."""
    from pipelines.recommend.histories import history_of, history_of_user, sample_histories

    if sample[0]:
        return sample_histories(model, sample[0], sample[1])
    if user is not None:
        return history_of_user(model, user)
    if source is not None:
        from pipelines.recommend.read import read_histories

        return read_histories(source, model.table)
    if like is not None:
        item_id, _ = model.table.names.row(_choose(model.table, like))
        return history_of([item_id], model.table)
    assert history is not None, "one of the options is given"
    return history_of(identifiers("--history", history), model.table)


def _choose(table: ItemTable, part: str) -> int:
    """Return the number of the item whose title contains a text; ask on a terminal if there are several.

    Raises:
        UserError: no title contains it, or several do and there is no terminal.
    """
    found = table.matching(part)
    if not len(found):
        raise UserError(f"--like {quoted(part)}: no title of {table.dataset} contains it.")
    if len(found) == 1:
        return int(found[0])
    rows = table.names[found[:MATCHES].tolist()].rows()
    for number, (item_id, title) in enumerate(rows, start=1):
        console.note(f"{number:>3}  {title} ({item_id})")
    if len(found) > MATCHES:
        console.note(f"     and {len(found) - MATCHES:,} more")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(
            f"--like {quoted(part)} matches {len(found):,} titles. Give more of the title, or --history with "
            "an id."
        )
    choice: int = typer.prompt("Number", type=int, err=True)
    if not 1 <= choice <= len(rows):
        raise UserError(f"There is no number {choice} in the list; it goes from 1 to {len(rows)}.")
    return int(found[choice - 1])


def _show(model: Model, query: Query, histories: Histories, explain: bool) -> None:
    """Print the recommendations to each history as tables."""
    frame = model.answer(query, histories, explain=explain)
    name = histories.names.name
    parts = {part[name][0]: part for part in frame.partition_by(name, maintain_order=True)}
    for place, label in enumerate(histories.names):
        part = parts.get(label, frame.clear())
        recommendations.show(_title(model, histories, place), part)
        for row in part.iter_rows(named=True) if explain else ():
            if row["explanation"]:
                explained = part.filter(rank=row["rank"]).explode("explanation").unnest("explanation")
                recommendations.show_explanation(f"{row['rank']}. {row['title']}", explained)


def _show_next(model: Model) -> None:
    """Print commands to go on with."""
    name = model.run.name
    console.note(
        "Next: maskgr recommend --user ID, maskgr recommend --like TEXT, maskgr items list; "
        + (f"maskgr train --final {name}, a run on all items." if not model.run.is_final else "maskgr show.")
    )


def _title(model: Model, histories: Histories, place: int) -> str:
    """Return a title: whom the recommendations are for, and the last items of the history."""
    past = histories.of(place)
    recent = model.table.names["title"].gather(past[-RECENT:][::-1]).to_list()
    whom = f"User {histories.names[place]}" if histories.names.name == "user_id" else "History"
    last = f"; the last: {' · '.join(recent)}" if recent else ""
    return f"{whom}: {len(past):,} item{'s' * (len(past) != 1)}{last}"
