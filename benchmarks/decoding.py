"""Users/s of beam search at the paper's sizes on Beauty: maskgr against one forward pass per beam."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.common import build_maskgr, compare, dataset, items_first
from benchmarks.reference import ReferenceModel, reference_beam_search
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models.nn.precision import autocast
from pipelines.progress import Silent

BEAMS, REFERENCE_BATCH = 10, 32
USERS = {True: 512, False: 64}  # in one unit of work: if histories are encoded once, and if not


def maskgr(precision: str, attention: str = "full", approximate: bool = False) -> Callable[[], int]:
    """Return a function that recommends to a sample of users with maskgr, and returns their number."""
    data, sids = dataset()
    catalogue = load_catalogue(data, sids)
    model = build_maskgr("paper", {"attention": attention}, catalogue).eval()
    index = PartialIndex(catalogue.require_sids(), catalogue.codes)
    decoding = Decoding(beams=BEAMS, approximate=approximate)
    test = histories(load_sequences(data.sequences), "test")
    seeds, size = itertools.count(), USERS[approximate or attention == "prefix"]

    def work() -> int:
        users = test.sample(size, next(seeds))
        with autocast(precision, torch.device("cpu")):
            recommend(model, users, index, decoding, Silent())
        return size

    return work


def reference(device: str = "cpu", batch: int = REFERENCE_BATCH) -> Callable[[], int]:
    """Return a function that recommends to a batch of users with the reference, and returns their number."""
    data, sids = dataset()
    catalogue = load_catalogue(data, sids)
    model = ReferenceModel().to(device)
    test = histories(load_sequences(data.sequences), "test")
    seeds = itertools.count()

    def work() -> int:
        users = test.sample(batch, next(seeds))
        recent = users.padded(np.arange(batch), 23)
        reference_beam_search(model, items_first(catalogue.require_sids(), recent).to(device), BEAMS)
        return batch

    return work


if __name__ == "__main__":
    sides: dict[str, Callable[[], Callable[[], int]]] = {
        "maskgr, auto precision": partial(maskgr, "auto"),
        "maskgr, fp32": partial(maskgr, "fp32"),
        "maskgr, histories encoded once (approximate)": partial(maskgr, "auto", approximate=True),
        "maskgr, prefix attention": partial(maskgr, "auto", attention="prefix"),
    }
    compare("decoding", sides, reference, unit="users")
