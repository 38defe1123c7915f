"""All readers of files: a valid file, the mutation that corrupts it, and the function that reads it."""

from __future__ import annotations

import functools
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import Accelerator

from benchmarks.fuzz import formats, large, mutate, public, world
from pipelines import artifacts
from pipelines.ablate import recipe_file
from pipelines.ablate.grid import GridSettings, cells
from pipelines.ablate.job import Job
from pipelines.ablate.planning import PlannedRun
from pipelines.ablate.section import read_section
from pipelines.ablate.state import run_result
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories, training
from pipelines.download import described, fetch, movielens
from pipelines.download.sources import DATASETS
from pipelines.download.statistics import statistics
from pipelines.errors import UserError
from pipelines.evaluate.compare import check_comparable_runs, compare
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.external import evaluate_lists, settings_for
from pipelines.evaluate.report import read_metrics
from pipelines.evaluate.stored_ranks import read_ranking
from pipelines.external.read import read_lists
from pipelines.import_.build import import_dataset
from pipelines.import_.config import ImportConfig
from pipelines.inventory import overview
from pipelines.models import loading
from pipelines.models.loading import load_run
from pipelines.progress import Silent
from pipelines.readers.read import read_table
from pipelines.train import checkpoint
from pipelines.train.batches import Batches
from pipelines.train.existing import find_unfinished
from pipelines.train.history import validations
from pipelines.train.loop import Trainer
from pipelines.train.tune import open_study
from pipelines.workspace import Workspace


@dataclass(frozen=True)
class Reader:
    """A kind of file and its reader.

    Attributes:
        name: name of the kind.
        mutate: corrupts the bytes of a valid file.
        read: reads the file, given the workspace of `world` and the path of the file.
        place: returns the path of the file in the workspace; None for a file outside it.
        file: name of a file outside the workspace.
        data: returns the valid content of such a file.
    """

    name: str
    mutate: mutate.Mutation
    read: Callable[[Workspace, Path], Any]
    place: Callable[[Workspace], Path] | None = None
    file: str = ""
    data: Callable[[], bytes] = bytes


def _import(interactions: Path, items: Path | None = None) -> None:
    workspace = Workspace(interactions.parent / "imported")
    import_dataset(
        workspace,
        "own",
        ImportConfig(),
        Silent(),
        interactions=[interactions],
        items=[items] if items else [],
        force=True,
    )


def _import_items(path: Path) -> None:
    log = path.parent / "log.csv"
    log.write_bytes(world.delimited(","))
    _import(log, path)


def _public(name: str, files: Callable[[], dict[str, bytes]]) -> Callable[[Path], None]:
    """Return a function that reads a public data set of which one file is given.

    Args:
        name: name of the data set.
        files: function that returns the valid files of one of its editions.
    """

    def read(path: Path) -> None:
        valid = files()
        for file, data in valid.items():
            if file != path.name:
                (path.parent / file).write_bytes(data)
        edition = next(e for e in DATASETS[name].editions if {f.name for f in e.files} == {*valid})
        described.read(edition, [path.parent / file.name for file in edition.files], Silent())

    return read


def _lists(path: Path) -> None:
    log = path.parent / "log.csv"
    log.write_bytes(world.delimited(","))
    _import(log)
    dataset = Workspace(path.parent / "imported").dataset("own")
    lists = read_lists(path, dataset, Silent())
    evaluate_lists(dataset, "other", lists, settings_for(lists, EvalConfig(), Silent()), Silent())


def _checksums(path: Path) -> None:
    files = [path.parent / name for name in world.FETCHED]
    for file in files:
        file.write_bytes(world.CONTENT)
        fetch.check(file, path.parent)
    fetch.accept(files)


def _run_config(workspace: Workspace, path: Path) -> None:
    run = workspace.run(world.RUN)
    overview(workspace)
    for read in (
        lambda: check_comparable_runs([run, run], None),
        lambda: find_unfinished(workspace, world.RUN),
    ):
        try:
            read()
        except UserError as error:
            if "nothing to resume" not in str(error):
                raise
    load_run(workspace, run, torch.device("cpu"))


def _sequences(workspace: Workspace, path: Path) -> None:
    sequences = load_sequences(path, world.ITEMS)
    training(sequences), histories(sequences, "validation"), histories(sequences, "test")
    statistics(workspace.dataset(world.NAME))
    overview(workspace)


def _state(workspace: Workspace, path: Path) -> None:
    trainer = _trainer(workspace)
    checkpoint.load(trainer, path)
    for parameter in trainer.unwrapped_model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in trainer.optimizers:
        optimizer.step()


@functools.cache
def _trainer(workspace: Workspace) -> Trainer:
    dataset, plan = workspace.dataset(world.NAME), world.PLAN
    catalogue = load_catalogue(dataset, world.SIDS, plan.model_settings.training_needs)
    model = loading.build(plan.model_settings, catalogue)
    sequences = training(load_sequences(dataset.sequences))
    return Trainer(
        model, Batches(sequences, 8, plan.model_settings.window, 0), plan.train, Accelerator(cpu=True)
    )


def _weights(workspace: Workspace, path: Path) -> None:
    load_run(workspace, workspace.run(world.RUN), torch.device("cpu"))


def _catalogue(workspace: Workspace, path: Path) -> None:
    load_catalogue(workspace.dataset(world.NAME), world.SIDS, ("sids", "embeddings"))
    overview(workspace)


def _items(workspace: Workspace, path: Path) -> None:
    artifacts.read(path, "items")
    load_catalogue(workspace.dataset(world.NAME), None)
    overview(workspace)


def _ranks(workspace: Workspace, path: Path) -> None:
    ranking = read_ranking(world.RUN, path.parent)
    compare(ranking, ranking)


def _metrics(workspace: Workspace, path: Path) -> None:
    read_metrics(path.parent)
    overview(workspace)


def _run_result(workspace: Workspace, path: Path) -> None:
    run_result(workspace, PlannedRun(cells(world.RECIPE, world.SETTINGS)[0], world.PLAN, world.RUN, "key"))


def _evaluation(name: str) -> Callable[[Workspace], Path]:
    return lambda workspace: workspace.run(world.RUN).evaluations[0] / name


def _frame(rows: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer, use_pyarrow=True)
    return buffer.getvalue()


def _alone(
    name: str, file: str, data: Callable[[], bytes], mutation: mutate.Mutation, read: Callable[[Path], Any]
) -> Reader:
    """Return the reader of a file outside the workspace."""
    return Reader(name, mutation, lambda _, path: read(path), None, file, data)


def _content(files: Callable[[], dict[str, bytes]], file: str) -> bytes:
    return files()[file]


PUBLIC: list[tuple[str, Callable[[], dict[str, bytes]], dict[str, mutate.Mutation]]] = [
    # name, valid files, and how each of them is corrupted
    (
        "beauty",
        public.amazon_2014,
        dict.fromkeys(("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"), mutate.in_gzip(mutate.of_lines)),
    ),
    (
        "amazon2023-Books",
        public.amazon_2023,
        {
            "Books.csv.gz": mutate.in_gzip(mutate.of_csv(",")),
            "meta_Books.jsonl.gz": mutate.in_gzip(mutate.of_lines),
        },
    ),
    ("ml-20m", public.ml_20m, {"ml-20m.zip": mutate.in_zip(mutate.of_csv(","))}),
    ("yelp", public.yelp, {"yelp_academic_dataset_review.json": mutate.of_lines}),
    ("steam", public.steam, {"steam_reviews.json.gz": mutate.in_gzip(mutate.of_lines)}),
    ("gowalla", public.gowalla, {public.CHECK_INS: mutate.in_gzip(mutate.of_csv("\t"))}),
]
OWN = [
    Reader(
        "workspace.json",
        mutate.of_json,
        lambda w, _: (w.require_dataset(), overview(w)),
        lambda w: w.root / "workspace.json",
    ),
    Reader("config.json of a run", mutate.of_json, _run_config, lambda w: w.run(world.RUN).config),
    Reader(
        "study.json",
        mutate.of_json,
        lambda w, path: artifacts.read_json(path),
        lambda w: w.study("study") / "study.json",
    ),
    Reader(
        "journal of a study",
        mutate.of_lines,
        lambda w, path: open_study(path.parent, "study"),
        lambda w: w.study("study") / "journal.log",
    ),
    Reader("outcome of a cell", mutate.of_json, _run_result, lambda w: w.run_result("key")),
    Reader(
        "job of a grid",
        mutate.of_json,
        lambda w, path: Job.read(path),
        lambda w: w.run_results / "jobs" / "run.json",
    ),
    Reader("sequences.parquet", mutate.of_parquet, _sequences, lambda w: w.dataset(world.NAME).sequences),
    Reader(
        "list of files",
        mutate.of_parquet,
        large.read_list,
        lambda w: w.dataset(world.LISTED).sequences,
    ),
    Reader(
        "file of a list", mutate.of_parquet, large.read_changed, lambda w: world.folder_of(w) / world.FILE
    ),
    Reader("items.parquet", mutate.of_parquet, _items, lambda w: w.dataset(world.NAME).items),
    Reader("sids.parquet", mutate.of_parquet, _catalogue, lambda w: w.dataset(world.NAME).sids(world.SIDS)),
    Reader(
        "embeddings.parquet", mutate.of_parquet, _catalogue, lambda w: w.dataset(world.NAME).embeddings("own")
    ),
    Reader(
        "quality.parquet",
        mutate.of_parquet,
        lambda w, _: overview(w),
        lambda w: w.dataset(world.NAME).quality(world.SIDS),
    ),
    Reader(
        "history.parquet",
        mutate.of_parquet,
        lambda w, _: validations(w.run(world.RUN)),
        lambda w: w.run(world.RUN).history,
    ),
    Reader("ranks.parquet", mutate.of_parquet, _ranks, _evaluation("ranks.parquet")),
    Reader("metrics.parquet", mutate.of_parquet, _metrics, _evaluation("metrics.parquet")),
    Reader("results.parquet of a grid", mutate.of_parquet, read_section, lambda w: w.reports[0]),
    Reader("model.safetensors", mutate.of_safetensors, _weights, lambda w: w.run(world.RUN).weights),
    Reader("state.safetensors", mutate.of_safetensors, _state, lambda w: w.run(world.RUN).state),
]
OTHERS = [
    _alone(
        "recipe",
        "own.toml",
        lambda: (recipe_file.FOLDER / "table2.toml").read_bytes(),
        mutate.of_toml,
        lambda p: cells(recipe_file.load(str(p)), GridSettings("smoke")),
    ),
    _alone(
        "checksums.json",
        fetch.RECORD,
        world.checksums,
        mutate.of_json,
        _checksums,
    ),
    _alone(
        "ml-1m.zip",
        "ml-1m.zip",
        world.ml_1m,
        mutate.in_zip(mutate.of_csv("::")),
        lambda p: movielens.read_1m([p]),
    ),
    _alone(
        "ml-100k.zip",
        "ml-100k.zip",
        world.ml_100k,
        mutate.in_zip(mutate.of_csv("\t")),
        lambda p: movielens.read_100k([p]),
    ),
    _alone(
        "recbole.whl",
        "recbole.whl",
        world.recbole,
        mutate.in_zip(mutate.of_csv("\t")),
        lambda p: movielens.read_recbole([p]),
    ),
    *(
        _alone(
            f"{file} of {name}",
            file,
            functools.partial(_content, files, file),
            mutation,
            _public(name, files),
        )
        for name, files, mutations in PUBLIC
        for file, mutation in mutations.items()
    ),
    _alone("external lists.csv", "lists.csv", world.lists, mutate.of_csv(","), _lists),
    _alone("interactions.csv", "own.csv", lambda: world.delimited(","), mutate.of_csv(","), _import),
    _alone(
        "interactions.tsv.gz",
        "own.tsv.gz",
        lambda: gzip.compress(world.delimited("\t"), mtime=0),
        mutate.in_gzip(mutate.of_csv("\t")),
        _import,
    ),
    _alone(
        "interactions.jsonl",
        "own.jsonl",
        lambda: world.json_lines(world.interactions()),
        mutate.of_lines,
        _import,
    ),
    _alone(
        "interactions.parquet",
        "own.parquet",
        lambda: _frame(world.interactions()),
        mutate.of_parquet,
        _import,
    ),
    _alone("sequences of others", world.FILE, world.sequences, mutate.of_parquet, large.import_folder),
    _alone(
        "large interactions.csv",
        "own.csv",
        lambda: world.delimited(","),
        mutate.of_csv(","),
        large.import_in_pieces,
    ),
    _alone(
        "large interactions.jsonl",
        "own.jsonl",
        lambda: world.json_lines(world.interactions()),
        mutate.of_lines,
        large.import_in_pieces,
    ),
    _alone(
        "large interactions.parquet",
        "own.parquet",
        lambda: _frame(world.interactions()),
        mutate.of_parquet,
        large.import_in_pieces,
    ),
    _alone(
        "own items.csv",
        "own.csv",
        lambda: pl.DataFrame(world.items()).drop("tags").write_csv().encode(),
        mutate.of_csv(","),
        _import_items,
    ),
    _alone(
        "own items.jsonl",
        "own.jsonl",
        lambda: world.json_lines(world.items()),
        mutate.of_lines,
        _import_items,
    ),
    _alone(
        "own items.parquet", "own.parquet", lambda: _frame(world.items()), mutate.of_parquet, _import_items
    ),
    *(_alone(name, *form[:2], form.mutation, _import) for name, form in formats.INTERACTIONS.items()),
    *(_alone(name, *form[:2], form.mutation, _import_items) for name, form in formats.ITEMS.items()),
    _alone("tokens of items", *formats.TOKENS, read_table),
]
READERS = {reader.name: reader for reader in (*OTHERS, *OWN)}
