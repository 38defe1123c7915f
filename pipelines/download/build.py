"""Make a public data set, or find it up to date: its files from disk or the web, checked, then read and prepared."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipelines import artifacts
from pipelines.download import amazon, movielens, sources
from pipelines.download.download_config import DownloadConfig
from pipelines.download.fetch import Unreachable, fetch, wheel
from pipelines.download.prepare import prepare
from pipelines.download.sources import Edition, File
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.workspace import Dataset, Workspace

# format → (what reads its files, the columns of the text in the paper's order)
READERS = {
    "amazon": (amazon.read, amazon.TEXT_COLUMNS),
    "ml-1m": (movielens.read_1m, movielens.TEXT_COLUMNS),
    "ml-100k": (movielens.read_100k, movielens.TEXT_COLUMNS),
    "recbole": (movielens.read_recbole, movielens.TEXT_COLUMNS),
}


def download_dataset(workspace: Workspace, name: str, config: DownloadConfig, progress: Progress, *, force: bool = False) -> Dataset:
    """Make a public data set and take it as the current one; skip what is up to date.

    Files lie in `workspace.downloads(name)`. The sha256 of a file is recorded once it was read without fault, and
    compared with each time after that.

    Args:
        force: read the files again even where nothing changed; files on disk are not loaded again.

    Raises:
        UserError: no such data set, no source reachable, a file that is damaged or not the one accepted before.
    """
    editions, folder = sources.editions(name), workspace.downloads(name)
    if config.source:
        edition = _take(editions, config.source, folder)
    else:
        edition = _present(editions, folder) or _load(name, editions, folder, config.mirror, progress)
    paths = {role: folder / file.name for role, file in edition.files.items()}
    found = {path.name: _accepted(path, folder) for path in paths.values()}

    dataset = workspace.dataset(name)
    recorded = {"name": name, "format": edition.format, "min_count": config.min_count}
    reason = (
        artifacts.stale(dataset.interactions, recorded, paths)
        or artifacts.stale(dataset.items, recorded, paths)
        or artifacts.stale(dataset.sequences, recorded)
    )
    if reason is None and not force:
        progress.say(f"{name} is up to date ({dataset.path}).")
    else:
        if dataset.interactions.exists():
            progress.say(f"Making {name} again: {reason or 'as asked'}.")
        _make(dataset, edition, paths, recorded, progress)
    artifacts.write_json(folder / "checksums.json", _checksums(folder) | found)
    workspace.use(name)
    return dataset


def _make(dataset: Dataset, edition: Edition, paths: dict[str, Path], recorded: dict[str, Any], progress: Progress) -> None:
    read, text_columns = READERS[edition.format]
    interactions, items = read(paths, progress)
    prepare(
        dataset,
        interactions,
        items,
        text_columns=list(text_columns),
        min_count=recorded["min_count"],
        config=recorded,
        inputs=paths,
        progress=progress,
    )


def _present(editions: tuple[Edition, ...], folder: Path) -> Edition | None:
    """The first edition whose files all lie in the folder."""
    return next((e for e in editions if all((folder / file.name).is_file() for file in e.files.values())), None)


def _take(editions: tuple[Edition, ...], source: Path, folder: Path) -> Edition:
    """Copy the files of an edition from a folder, or the one archive of an edition, into the downloads.

    Raises:
        UserError: the path is missing or lacks the files, or a file is not the one accepted before.
    """
    wanted = " or ".join(" and ".join(file.name for file in edition.files.values()) for edition in editions)
    if not source.exists():
        raise UserError(f"--from {source} does not exist. Name a folder that holds {wanted}.")
    if source.is_dir():
        edition = _present(editions, source)
        have = {file.name: source / file.name for file in edition.files.values()} if edition else {}
    else:
        single = [e for e in editions if len(e.files) == 1 and Path(e.files["archive"].name).suffix == source.suffix]
        edition = single[0] if single else None
        have = {edition.files["archive"].name: source} if edition else {}
    if edition is None:
        raise UserError(f"--from {source} lacks the files of this data set. Name a folder that holds {wanted}.")
    for name, path in have.items():
        _compare(path, name, folder)
        if path.resolve() != (folder / name).resolve():
            with artifacts.atomic(folder / name) as temporary:
                shutil.copyfile(path, temporary)
    return edition


def _load(name: str, editions: tuple[Edition, ...], folder: Path, mirror: str | None, progress: Progress) -> Edition:
    """Load the first edition that can be had, and say what was skipped.

    Raises:
        UserError: none can be had.
    """
    tried: list[str] = []
    for edition in editions:
        if all((folder / file.name).is_file() or _get(file, folder, mirror, tried, progress) for file in edition.files.values()):
            return edition
    wanted = " or ".join(" and ".join(file.name for file in edition.files.values()) for edition in editions)
    raise UserError(
        f"No source of {name} gave its files. Tried {'; '.join(tried)}. "
        f"Put {wanted} into a folder and name it with --from, or name a web folder that holds them with --mirror."
    )


def _get(file: File, folder: Path, mirror: str | None, tried: list[str], progress: Progress) -> bool:
    """Load one file from the first source that gives it; what does not is said, and added to `tried`."""
    path = folder / file.name
    loading = folder / f"new-{file.name}"  # takes its place only if it is the file accepted before
    urls = ([f"{mirror.rstrip('/')}/{file.name}"] if mirror else []) + list(file.urls)
    ways = [(url, fetch) for url in urls] + ([(file.requirement, wheel)] if file.requirement else [])
    for address, way in ways:
        try:
            way(address, loading, progress)
        except Unreachable as failure:
            tried.append(f"{address} ({failure})")
            progress.say(f"Skipped {address}: {failure}.")
            continue
        try:
            _compare(loading, file.name, folder)
            loading.replace(path)
        finally:
            loading.unlink(missing_ok=True)
        progress.say(f"Downloaded {file.name}: {path.stat().st_size / 1e6:,.1f} MB from {address}.")
        return True
    return False
