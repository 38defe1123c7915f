"""Stage "download": a public data set becomes the artifacts interactions, items and sequences."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from pipelines.download import described, movielens
from pipelines.download.config import DownloadConfig
from pipelines.download.description import Edition, Source
from pipelines.download.fetch import Unreachable, accept, check, fetch
from pipelines.download.sources import public
from pipelines.durable import atomic, locked
from pipelines.errors import UserError
from pipelines.prepare.dataset import is_current, prepare
from pipelines.prepare.tables import Tables
from pipelines.progress import Progress
from pipelines.workspace import Dataset, Workspace

# Name of an edition without a description → function that reads its files.
READERS: dict[str, Callable[[list[Path]], Tables]] = {
    "ml-1m": movielens.read_1m,
    "ml-100k": movielens.read_100k,
    "recbole": movielens.read_recbole,
}


def download_dataset(
    workspace: Workspace, name: str, config: DownloadConfig, progress: Progress, *, force: bool = False
) -> Dataset:
    """Download a public data set, filter and sort it, and make it the current data set.

    The sha256 of a file is recorded when the file is first read without error. From then on, a file of that
    name must have the same content.

    Args:
        name: name of a public data set, a key of `sources.DATASETS`.
        force: make the artifacts again; files that are already downloaded are kept.

    Raises:
        UserError: the name is unknown, no source answers, or a file is not the expected one.
    """
    source, folder = public(name), workspace.downloads(name)
    if not workspace.dataset(name).sequences.exists():
        progress.say(f"Terms of {name}: {source.terms} Cite {source.citation}.")
    with locked(folder, lambda: progress.say(f"Waiting for another command that downloads {name}.")):
        edition, files = (
            _from_disk(source, Path(config.local), folder)
            if config.local
            else _fetch(source, folder, config, progress)
        )
        dataset, inputs = workspace.dataset(name), {path.name: path for path in files}
        # Neither mirror nor local: the artifacts depend on the content of the files, not on their origin.
        recorded = {"reader": edition.reader} | config.preparation.recorded()
        if not is_current(dataset, recorded, inputs, force, progress):
            prepare(
                dataset,
                _read(edition, files, progress),
                config.preparation,
                config=recorded,
                inputs=inputs,
                progress=progress,
            )
        accept(files)
    workspace.use(name)
    return dataset


def _read(edition: Edition, files: list[Path], progress: Progress) -> Tables:
    if edition.interactions:
        return described.read(edition, files, progress)
    return READERS[edition.reader](files)


def _fetch(
    source: Source, folder: Path, config: DownloadConfig, progress: Progress
) -> tuple[Edition, list[Path]]:
    """Return the first edition whose files can all be had, and the paths of the files.

    If the files of some editions are on disk, only these editions are tried.
    """
    on_disk = [e for e in source.editions if all((folder / file.name).exists() for file in e.files)]
    if source.page and not on_disk and not config.mirror:
        raise UserError(
            f"{folder.name} must be fetched by hand: accept its terms on {source.page}, take "
            f"{_file_names(source)} there, and name the folder with --from."
        )
    failures = []
    for edition in on_disk or source.editions:
        try:
            return edition, [fetch(file, folder, config.mirror, progress) for file in edition.files]
        except Unreachable as error:
            failures.append(str(error))
    raise UserError(
        f"No source of {folder.name} could be reached ({'; '.join(failures)}). "
        f"Bring {_file_names(source)} here by other means and name the folder with --from, or give a "
        "--mirror."
    )


def _from_disk(source: Source, path: Path, folder: Path) -> tuple[Edition, list[Path]]:
    """Check files on disk like downloaded ones, and copy them to the downloads.

    Args:
        path: folder that holds the files, or a file.
        folder: folder of the downloads.
    """
    if not path.exists():
        raise UserError(f"--from {path} does not exist.")
    for edition in source.editions:
        files = [
            path if path.is_file() and path.name == file.name else path / file.name for file in edition.files
        ]
        if all(file.is_file() for file in files):
            return edition, [_copy(file, folder) for file in files]
    raise UserError(f"--from {path} does not hold {_file_names(source)}.")


def _copy(file: Path, folder: Path) -> Path:
    """Check a file and copy it to the downloads.

    Returns:
        path of the copy.
    """
    try:
        check(file, folder)
        with atomic(folder / file.name) as temporary:
            shutil.copyfile(file, temporary)
    except OSError as error:
        raise UserError(
            f"{file} cannot be copied to {folder} ({error.strerror}). "
            "Check its permissions and the space left."
        ) from None
    return folder / file.name


def _file_names(source: Source) -> str:
    return " or ".join(" and ".join(file.name for file in edition.files) for edition in source.editions)
