"""Export of a prepared data set for another program."""

from __future__ import annotations

from pathlib import Path

from pipelines.durable import together
from pipelines.errors import UserError
from pipelines.export.config import ExportConfig
from pipelines.export.content import read_content
from pipelines.export.formats import WRITERS
from pipelines.workspace import Dataset


def export_dataset(dataset: Dataset, config: ExportConfig, output: Path) -> list[Path]:
    """Write a data set in the format of another program: its users, items and interactions.

    Files of the same names in the folder are replaced, all or none.

    Args:
        output: folder of the files.

    Returns:
        Paths of the files.

    Raises:
        UserError: the data set cannot be read, its identifiers do not fit the format, or the files cannot be
            written.
    """
    folder = output.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {output} is a file. Name a folder.")
    content = read_content(dataset, config.semantic_ids, config.split)
    with together(folder) as new:
        WRITERS[config.format](content, new)
        names = sorted(path.name for path in new.iterdir())
    return [folder / name for name in names]
