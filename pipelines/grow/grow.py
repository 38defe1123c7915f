"""A grown catalogue: new items, and the embeddings and semantic IDs of the data set extended to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import artifacts
from pipelines.durable import inside, locked, together
from pipelines.embed import extend as extend_embed
from pipelines.errors import UserError
from pipelines.formats import Source
from pipelines.grow.rows import with_new_rows
from pipelines.progress import Progress
from pipelines.tokenize import extend as extend_tokenize
from pipelines.workspace import Dataset, Workspace


@dataclass(frozen=True)
class Growth:
    """Result of a growth.

    Attributes:
        items: number of new items.
        extended: artifacts that were extended, e.g. "embeddings lsa".
        left: artifact that was not extended → reason, and what to do.
    """

    items: int
    extended: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def add_items(workspace: Workspace, dataset: str | None, file: Path, progress: Progress) -> Growth:
    """Add the items of a file to a catalogue, and extend all embeddings and semantic IDs that can be.

    Numbers, vectors and codes of the old items stay. Everything is replaced together, or nothing. The content
    of the sequences stays, so that nothing but the catalogue counts as changed.

    Args:
        dataset: name of the data set; None for the current one.
        file: one row per item: its id, and columns as those of the catalogue.

    Raises:
        UserError: there is no such data set, or the file cannot be used.
    """
    data = workspace.require_dataset(dataset)
    with _turn(data, progress):
        items, count = with_new_rows(data, file, progress)
        if not count:
            progress.say(f"{file} has no new items for {data.name}.")
            return Growth(0)
        with together(data.path) as new:
            grown = Dataset(data.name, new)
            _write_items(
                data, grown, items, {"file": file.name, "sha256": artifacts.digest(file), "items": count}
            )
            growth = _extend_all(data, grown, new, count, progress)
    progress.say(f"Added {count:,} items to {data.name}, which now has {len(items):,} ({data.items}).")
    return growth


def grow(dataset: Dataset, progress: Progress) -> Growth:
    """Extend all embeddings and semantic IDs of a data set whose catalogue has gained items.

    Those that can be extended are replaced together. Embeddings that were made from interactions keep the
    vectors of old items, whatever interactions the data set has gained.
    """
    items = artifacts.count(dataset.items)
    rows = [artifacts.count(path) for path in dataset.all_embeddings]
    with _turn(dataset, progress), together(dataset.path) as new:
        return _extend_all(dataset, dataset, new, items - min(rows, default=items), progress)


def _turn(dataset: Dataset, progress: Progress) -> Any:
    """Return the lock of the growth of a data set."""
    waiting = f"Waiting for another command that adds items to {dataset.name}."
    return locked(dataset.path / ".grow", lambda: progress.say(waiting))


def _write_items(dataset: Dataset, grown: Dataset, items: pa.Table, added: dict[str, Any]) -> None:
    """Write the grown catalogue, and the sequences with it as an input.

    Args:
        grown: paths of the new files.
        added: entry for the file that added the items.
    """
    provenance = artifacts.provenance(dataset.items)
    config = dict(provenance["config"]) if provenance else {}
    config["added"] = [*config.get("added", []), added]
    recorded = provenance["inputs"] if provenance else {}
    artifacts.write(grown.items, "items", items, config=config, recorded=recorded)
    provenance = artifacts.provenance(dataset.sequences)
    if provenance and "items" in provenance["inputs"]:
        source = Source(path=dataset.items.name, sha256=artifacts.digest(grown.items))
        artifacts.write_again(grown.sequences, dataset.sequences, {"items": source})


def _extend_all(dataset: Dataset, grown: Dataset, new: Path, count: int, progress: Progress) -> Growth:
    """Write all extended embeddings and semantic IDs into a staging folder, and report what is left.

    Args:
        dataset: data set that holds them.
        grown: paths of the grown items.
        new: staging folder.
        count: number of new items.
    """
    growth = Growth(count)
    embeddings: dict[str, Path] = {}
    for name in [path.stem for path in dataset.all_embeddings]:
        with _reported(f"embeddings {name}", growth, progress):
            folder = inside(new, "embeddings")
            embeddings[name] = extend_embed.write_extended(dataset, grown, name, folder, progress)
    for name in [path.stem for path in dataset.all_sids]:
        with _reported(f"semantic IDs {name}", growth, progress):
            extend_tokenize.write_extended(dataset, grown, name, embeddings, inside(new, "sids"), progress)
    if growth.extended:
        progress.say(f"Extended to {count:,} new items: {', '.join(growth.extended)}.")
    return growth


@contextmanager
def _reported(what: str, growth: Growth, progress: Progress) -> Iterator[None]:
    """Record that the block extended an artifact, or why it could not."""
    try:
        yield
        growth.extended.append(what)
    except UserError as error:
        growth.left[what] = str(error)
        progress.say(f"Not extended: {what}. {error}")
