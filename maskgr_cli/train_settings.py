"""Configuration files of `maskgr train`, the sources of its options, and their display."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.arguments import MAX_LENGTH
from maskgr_cli.options import checked, worded
from pipelines.errors import UserError
from pipelines.models.registry import model_class
from pipelines.options import check_choice, check_kind, flag_named, quoted
from pipelines.train.configure import LARGE_CATALOGUE, codes_for, configure, negatives_for
from pipelines.train.explain import Setting, explain, explain_plan
from pipelines.train.presets.maskgr import STRONG
from pipelines.train.settings_file import FileValues, read_settings, settings_of_plan, settings_text
from pipelines.train.strong import TEACHERS, chosen_by_data, trains_teachers
from pipelines.workspace import Dataset, Workspace

if TYPE_CHECKING:
    from pipelines.train.plan import Plan

FORMATS = ("table", "toml")
NOT_IN_FILES = {"config", "print_config", "format_", "resume", "force", "workspace"}
SID_OPTIONS = {"sids", "codebook", "method", "embedding"}  # parameters that semantic IDs are made with
RANKS = {"COMMANDLINE": 2, "DEFAULT_MAP": 1}  # source of a parameter → what wins over what


def _take_file(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a configuration file the defaults of the options that are read after it."""
    if path is not None:
        context.default_map = {**(context.default_map or {}), **_values(path)}
    return path


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file with options of this command, one a line, such as: learning-rate = 0.01. The command "
        "line wins over the file, the file over the preset. Each run keeps such a file, train.toml.",
        is_eager=True,
        callback=_take_file,
        show_default=False,
    ),
]
PrintConfigOption = Annotated[
    bool,
    typer.Option(
        "--print-config",
        help="Print every setting and what gave it (command line, file, preset, default or a rule), and "
        "train nothing.",
    ),
]
FormatOption = Annotated[
    str,
    checked(
        "--format",
        "Format of --print-config: a table, or toml, a file for --config that repeats the settings.",
        check_choice,
        FORMATS,
    ),
]


def rank(context: typer.Context, names: Iterable[str]) -> int:
    """Return the rank of the highest source of some parameters: 2 the command line, 1 a file, 0 none."""
    sources = (context.get_parameter_source(name) for name in names if name in context.params)
    return max((RANKS.get(source.name, 0) for source in sources if source), default=0)


def by_source(context: typer.Context, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split settings into those of the command line and those of a configuration file."""
    typed = {name: value for name, value in settings.items() if rank(context, [name]) == RANKS["COMMANDLINE"]}
    return typed, {name: value for name, value in settings.items() if name not in typed}


def source_of(context: typer.Context, name: str, otherwise: str = "default") -> str:
    """Return the source of a parameter's value: "command line", "file", or `otherwise`."""
    return {2: "command line", 1: "file"}.get(rank(context, [name]), otherwise)


def is_given(context: typer.Context, names: Iterable[str]) -> bool:
    """Return True if the command line or a configuration file gives one of some parameters."""
    return rank(context, names) > 0


def refuse(context: typer.Context, refused: set[str], reason: str) -> None:
    """Raise if the user gave one of the `refused` parameters.

    Raises:
        UserError: The user gave one. The message begins with the reason.
    """
    given = [name for name in context.params if name in refused and rank(context, [name])]
    if given:
        options = ", ".join(f"--{name.strip('_').replace('_', '-')}" for name in given)
        raise UserError(f"{reason}; leave out {options}.")


def refuse_sids(context: typer.Context, model: str) -> None:
    """Refuse options of semantic IDs for a model that identifies items by number.

    A file's options of semantic IDs do not count if the command line names the model.

    Raises:
        UserError: such an option was given.
    """
    least = max(1, rank(context, ["model"]))
    refused = {name for name in SID_OPTIONS | {"semantic_ids"} if rank(context, [name]) >= least}
    refuse(context, refused, f"--model {model} identifies items by number, not by semantic IDs")


def names_sids(context: typer.Context) -> bool:
    """Return True if semantic IDs are selected by name, False if by the options that they are made with.

    Raises:
        UserError: the command line or the file gives both.
    """
    by_name, by_options = rank(context, ["semantic_ids"]), rank(context, SID_OPTIONS)
    if by_name and by_name == by_options:
        refuse(context, SID_OPTIONS, "--semantic-ids names semantic IDs that exist already")
    return by_name > by_options


def count_items(data: Dataset | None) -> int:
    """Return the number of items of a data set; 0 without one, or if its items cannot be found."""
    from pipelines import artifacts

    return artifacts.count(data.items) if data and data.items.exists() else 0


def count_sequences(data: Dataset | None) -> tuple[int, int]:
    """Return the numbers of users and of interactions of a data set; 0 without one, or if its sequences
    cannot be found.
    """
    from pipelines.data.stored import StoredSequences

    if not data or not data.sequences.exists():
        return 0, 0
    stored = StoredSequences(data.sequences)
    return len(stored), stored.interactions


def explain_new(
    context: typer.Context, root: Workspace, typed: dict[str, Any], file: dict[str, Any]
) -> tuple[list[Setting], FileValues]:
    """Return the settings of a new run, and the values of its file."""
    given = context.params
    dataset = given["dataset"] or root.current
    data = root.dataset(dataset) if dataset else None
    settings = [
        Setting("name", given["name"], source_of(context, "name", "rule: DATASET-MODEL-PRESET-DIGEST")),
        Setting("dataset", dataset, source_of(context, "dataset", "rule: the last downloaded or imported")),
        *(Setting(key, given[key], source_of(context, key)) for key in ("model", "preset")),
        *_explain_sids(context, data, typed, file),
        *_explain_model(given["model"], given["preset"], typed, file, data),
    ]
    return settings, {setting.key: setting.value for setting in settings}


def _explain_model(
    model: str, preset: str, typed: dict[str, Any], file: dict[str, Any], data: Dataset | None
) -> list[Setting]:
    """Return the settings of model and training, with those that the data set decides."""
    given, chosen = typed | file, {}
    items = count_items(data)
    config, _ = configure(model, preset, typed, file)
    negatives = None if "negatives" in given else negatives_for(config, items)
    if negatives is not None:
        chosen["negatives"] = Setting("negatives", negatives, f"rule: more than {LARGE_CATALOGUE:,} items")
    if trains_teachers(preset, given):
        source = f"rule: {len(TEACHERS)} teachers, which are trained first"
        chosen["distill"] = Setting("distill", None, source)
    if preset == STRONG:
        for name, value in chosen_by_data(model, preset, given, *count_sequences(data)).items():
            key = flag_named(name).removeprefix("--")
            chosen[key] = Setting(key, value, "rule: by the numbers of users and interactions")
    return [chosen.get(setting.key, setting) for setting in explain(model, preset, typed, file)]


def _explain_sids(
    context: typer.Context, data: Dataset | None, typed: dict[str, Any], file: dict[str, Any]
) -> list[Setting]:
    """Return the options that select semantic IDs; none for a model that identifies items by number."""
    given = context.params
    if not model_class(given["model"])().needs:
        refuse_sids(context, given["model"])
        return []
    if names_sids(context):
        return [Setting("semantic-ids", given["semantic_ids"], source_of(context, "semantic_ids"))]
    embedding = given["embedding"]
    if embedding is None and data and data.all_embeddings:
        embedding = data.require_embeddings().stem
    return [
        Setting("sids", given["sids"], source_of(context, "sids")),
        _explain_codes(context, data, typed, file),
        Setting("method", given["method"], source_of(context, "method")),
        Setting("embedding", embedding, source_of(context, "embedding", "rule: the newest")),
    ]


def _explain_codes(
    context: typer.Context, data: Dataset | None, typed: dict[str, Any], file: dict[str, Any]
) -> Setting:
    """Return the number of codes per digit, which the number of items decides for some models."""
    given = context.params
    if given["codebook"] is not None:
        return Setting("codebook", given["codebook"], source_of(context, "codebook"))
    config = configure(given["model"], given["preset"], typed, file)[0]
    by_rule = config.scores_codes_alone
    source = "rule: by the number of items, without item embeddings" if by_rule else "default"
    return Setting("codebook", codes_for(config, given["sids"], count_items(data)), source)


def explain_derived(
    context: typer.Context, plan: Plan, name: str, typed: dict[str, Any], file: dict[str, Any]
) -> tuple[list[Setting], FileValues]:
    """Return the settings of a run that is made from another one, and the values of its file."""
    rule = "rule: the run's name and its kind"
    settings = [
        Setting("name", name, source_of(context, "name", rule)),
        *(
            Setting(option, context.params[key], source_of(context, key))
            for option, key in (("final", "final"), ("continue", "continue_"))
            if context.params[key]
        ),
        *explain_plan(plan, typed, file),
    ]
    return settings, settings_of_plan(plan, name, of_final=bool(context.params["continue_"]))


def show_settings(settings: list[Setting], values: FileValues, format: str) -> None:
    """Print settings as a table, or values as a configuration file that repeats them."""
    if format == "toml":
        console.data(settings_text(values, "maskgr train --config FILE").rstrip("\n"))
        return
    rows = [(s.key, None if s.value is None else worded(s.value), s.source) for s in settings]
    console.table("Settings of maskgr train", ["option", "value", "from"], rows)


def _values(path: Path) -> dict[str, Any]:
    """Read a configuration file: values by parameter.

    Raises:
        UserError: the file cannot be read, a key is no option of the command, or a value has another type.
    """
    parameters = _parameters()
    result = {}
    for key, value in read_settings(path).items():
        if key not in parameters:
            near = difflib.get_close_matches(key.replace("_", "-"), parameters, n=3)
            similar = f"; similar: {', '.join(near)}" if near else ""
            raise UserError(f"{path}: maskgr train has no option {quoted(key)}{similar}.")
        name, kinds = parameters[key]
        if name in NOT_IN_FILES:
            raise UserError(f"{path}: {key} is an option of the command line alone. Remove it from the file.")
        check_kind(f"{path}: {key}", value, kinds)
        if isinstance(value, str) and (not value.strip() or len(value) > MAX_LENGTH or "\0" in value):
            raise UserError(f"{path}: {key} must be text of 1 to {MAX_LENGTH:,} characters without NUL.")
        result[name] = value
    return result


def _parameters() -> dict[str, tuple[str, tuple[type, ...]]]:
    """Return the parameters of `maskgr train` and their types by key of a configuration file."""
    from maskgr_cli.commands.train import train  # which imports this module

    result = {}
    for name, parameter in inspect.signature(train).parameters.items():
        hint, *metadata = typing.get_args(parameter.annotation) or (parameter.annotation,)
        if metadata:
            declared = (metadata[0].default, *(metadata[0].param_decls or ()), flag_named(name))
            flag = next(text for text in declared if isinstance(text, str) and text.startswith("--"))
            result[flag.split("/")[0].removeprefix("--")] = (name, typing.get_args(hint) or (hint,))
    return result
