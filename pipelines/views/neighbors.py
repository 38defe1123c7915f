"""Similar items by everything that a workspace has: a trained model, text embeddings, semantic IDs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from pipelines.data.catalogue import load_sids, load_text
from pipelines.errors import UserError
from pipelines.progress import Progress, Silent
from pipelines.recommend.load import load
from pipelines.recommend.similar import compared, similar_items
from pipelines.views.codes import newest_sids
from pipelines.workspace import Dataset, Workspace


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Similar items of Q items.

    Attributes:
        by: one of `pipelines.recommend.config.SIMILARITIES`.
        source: name of the run, the embeddings or the semantic IDs.
        items: item numbers, int64 [Q, k], best first.
        scores: cosines, or numbers of equal digits, float32 [Q, k].
    """

    by: str
    source: str
    items: np.ndarray
    scores: np.ndarray


def neighbors(
    workspace: Workspace, dataset: Dataset, items: np.ndarray, k: int, run: str | None, progress: Progress
) -> Iterator[Neighbors]:
    """Yield the similar items by a model, by texts and by semantic IDs, as far as there are any.

    Args:
        workspace: workspace of the data set.
        items: item numbers, int64 [Q].
        k: number of similar items.
        run: name of the run whose model is asked; None for the newest finished run of the data set, without
            which, or if it cannot be loaded, there are none by a model.
        progress: receives messages.

    Raises:
        UserError: the named run cannot be loaded or is one of another data set, or a file is damaged.
    """
    chosen = run or _newest_run(workspace, dataset)
    if chosen is not None:
        try:
            model = load(chosen, workspace=workspace.root, device="cpu", progress=Silent())
            if model.trained.dataset.name != dataset.name:
                raise UserError(f"--run {chosen}: it is a run on {model.trained.dataset.name}.")
            yield Neighbors(
                "model", model.run.name, *similar_items(compared(model.trained, "model"), items, k)
            )
        except UserError as error:
            if run is not None:
                raise
            progress.say(f"No similar items by the model of {chosen}: {error}")
    if dataset.all_embeddings:
        path = dataset.require_embeddings()
        vectors = F.normalize(torch.as_tensor(load_text(path)), dim=1)
        yield Neighbors("text", path.stem, *similar_items(vectors, items, k))
    if dataset.all_sids:
        name = newest_sids(dataset)
        sids = torch.as_tensor(load_sids(dataset, name).require_sids())
        yield Neighbors("sids", name, *similar_items(sids, items, k))


def _newest_run(workspace: Workspace, dataset: Dataset) -> str | None:
    """Return the name of the newest finished run of a data set, or None."""
    for run in reversed(workspace.runs):
        try:
            config = run.read_config()
        except UserError:
            continue
        if config.get("dataset") == dataset.name and config.get("state") == "finished":
            return run.name
    return None
