"""Stage "import": the user's own files become the artifacts interactions, items and sequences."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import UserError
from pipelines.import_.config import ImportConfig
from pipelines.import_.tables import read_tables
from pipelines.prepare.account import Account
from pipelines.prepare.dataset import arrange, is_current, prepare
from pipelines.progress import Progress
from pipelines.readers.paths import files_of
from pipelines.workspace import Dataset, Workspace


def import_dataset(
    workspace: Workspace,
    name: str,
    config: ImportConfig,
    progress: Progress,
    *,
    interactions: Sequence[Path],
    items: Sequence[Path] = (),
    force: bool = False,
) -> Dataset:
    """Make a data set from the user's own files, and make it the current data set.

    Args:
        name: name of the data set.
        interactions: files, folders or patterns of files with one row per interaction: user, item, and time
            or position; or in another form that `pipelines.readers` knows.
        items: the same of files with one row per item; empty if items have no text.
        force: read the files again even if nothing changed.

    Raises:
        UserError: a file or a column cannot be used; the message names it and says what to do.
    """
    dataset = workspace.dataset(name)
    logs, catalogues = _files(interactions, items, config)
    inputs = _inputs("interactions", logs) | _inputs("items", catalogues)
    recorded = config.recorded() | {"files": len(logs), "items_files": len(catalogues)}
    if not is_current(dataset, recorded, inputs, force, progress):
        started = time.monotonic()
        tables, account = read_tables(logs, catalogues, config, progress)
        prepare(
            dataset,
            tables,
            config.preparation,
            config=recorded,
            inputs=inputs,
            progress=progress,
            account=account,
            started=started,
        )
    workspace.use(name)
    return dataset


def examine(
    workspace: Workspace,
    name: str,
    config: ImportConfig,
    progress: Progress,
    *,
    interactions: Sequence[Path],
    items: Sequence[Path] = (),
) -> Account:
    """Return the account that `import_dataset` would give, and write nothing.

    Args:
        name, interactions, items: see `import_dataset`.

    Raises:
        UserError: a file or a column cannot be used.
    """
    logs, catalogues = _files(interactions, items, config)
    tables, account = read_tables(logs, catalogues, config, progress)
    return arrange(workspace.dataset(name), tables, config.preparation, account).account


def _files(
    interactions: Sequence[Path], items: Sequence[Path], config: ImportConfig
) -> tuple[list[Path], list[Path]]:
    """Return the files of interactions and of items.

    Raises:
        UserError: a path has no file, or an option has no effect without an items file.
    """
    if config.text_columns and not items:
        raise UserError(
            f"--text-columns {config.text_columns} names columns of an items file. Give it with --items."
        )
    if config.untaken and not items:
        raise UserError("--untaken keeps items of an items file. Give it with --items.")
    return files_of(interactions, "--interactions"), files_of(items, "--items")


def _inputs(kind: str, files: list[Path]) -> dict[str, Path]:
    """Return names and paths of files, for the provenance."""
    if len(files) == 1:
        return {kind: files[0]}
    return {f"{kind} {number}": file for number, file in enumerate(files, start=1)}
