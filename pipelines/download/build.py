"""The stage: a public data set → interactions, items, sequences."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl

from pipelines import artifacts
from pipelines.download import amazon, movielens
from pipelines.download.config import DownloadConfig
from pipelines.download.fetch import Unreachable, accept, check, fetch
from pipelines.download.prepare import is_current, prepare
from pipelines.download.sources import Edition, editions
from pipelines.durable import locked
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.workspace import Dataset, Workspace

READERS: dict[str, Callable[[list[Path]], tuple[pl.DataFrame, pl.DataFrame, list[str]]]] = {
    "amazon": amazon.read,
    "ml-1m": movielens.read_1m,
    "ml-100k": movielens.read_100k,
    "recbole": movielens.read_recbole,
}


def download_dataset(
    workspace: Workspace, name: str, config: DownloadConfig, progress: Progress, *, force: bool = False
) -> Dataset:
    """Fetch a public data set, filter and order it, and take it as the current one.

    A file's sha256 is recorded when it was first read without fault; from then on the same name must be the same bytes.

    Args:
        name: a key of `sources.DATASETS`.
        force: make the artifacts again; files already fetched are kept.

    Raises:
        UserError: an unknown name, no source that answers, a file that is not what it should be.
    """
    choices, folder = editions(name), workspace.downloads(name)
    with locked(folder, lambda: progress.say(f"Waiting for another command that downloads {name}.")):
        edition, files = (
            _from_disk(choices, Path(config.local), folder)
            if config.local
            else _fetch(choices, folder, config, progress)
        )
        dataset, inputs = workspace.dataset(name), {path.name: path for path in files}
        recorded = {
            "reader": edition.reader,
            "min_count": config.min_count,
        }  # not mirror and local: the bytes count, not their way
        if not is_current(dataset, recorded, inputs, force, progress):
            interactions, items, text_columns = READERS[edition.reader](files)
            prepare(
                dataset,
                interactions,
                items,
                text_columns=text_columns,
                min_count=config.min_count,
                config=recorded,
                inputs=inputs,
                progress=progress,
            )
        accept(files)
    workspace.use(name)
    return dataset


def _fetch(
    choices: tuple[Edition, ...], folder: Path, config: DownloadConfig, progress: Progress
) -> tuple[Edition, list[Path]]:
    """The first edition all of whose files are on disk already or can be fetched."""
    kept = [e for e in choices if all((folder / file.name).exists() for file in e.files)]
    failures = []
    for edition in kept or choices:
        try:
            return edition, [fetch(file, folder, config.mirror, progress) for file in edition.files]
        except Unreachable as error:
            failures.append(str(error))
    raise UserError(
        f"No source of {folder.name} could be reached ({'; '.join(failures)}). "
        f"Bring {_wanted(choices)} here by other means and name the folder with --from, or give a --mirror."
    )


def _from_disk(choices: tuple[Edition, ...], path: Path, folder: Path) -> tuple[Edition, list[Path]]:
    """Copy files that a person has into the downloads, under the same check as fetched ones."""
    if not path.exists():
        raise UserError(f"--from {path} does not exist.")
    for edition in choices:
        found = [
            path if path.is_file() and path.name == file.name else path / file.name for file in edition.files
        ]
        if all(file.is_file() for file in found):
            try:
                for file in found:
                    check(file, folder)
                    with artifacts.atomic(folder / file.name) as temporary:
                        shutil.copyfile(file, temporary)
            except OSError as error:
                raise UserError(
                    f"{file} cannot be copied to {folder} ({error.strerror}). Check its permissions and the space left."
                ) from None
            return edition, [folder / file.name for file in found]
    raise UserError(f"--from {path} does not hold {_wanted(choices)}.")


def _wanted(choices: tuple[Edition, ...]) -> str:
    return " or ".join(" and ".join(file.name for file in edition.files) for edition in choices)
