"""Users a second in beam search at the paper's sizes on Beauty: maskgr against one forward per beam."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.common import compare, dataset, items_first
from benchmarks.reference import ReferenceModel, reference_beam_search
from pipelines.data.catalogue import load_catalogue
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import recommend
from pipelines.models import loading
from pipelines.models.nn.precision import autocast
from pipelines.progress import Silent
from pipelines.train.configure import configure

BEAMS, REFERENCE_BATCH = 10, 32
USERS = {True: 512, False: 64}  # a unit of work: with and without encoding histories once


def ours(precision: str, attention: str = "full", approximate: bool = False) -> Callable[[], int]:
    data, sids = dataset()
    catalogue = load_catalogue(data, sids)
    model_settings, _ = configure("maskgr", "paper", {"attention": attention})
    model = loading.build(model_settings, catalogue).eval()
    index, decoding = (
        PartialIndex(catalogue.sids, catalogue.codes),
        Decoding(beams=BEAMS, approximate=approximate),
    )
    test = histories(load_sequences(data.sequences), "test")
    seeds, size = itertools.count(), USERS[approximate or attention == "prefix"]

    def work() -> int:
        users = test.sample(size, next(seeds))
        with autocast(precision, torch.device("cpu")):
            recommend(model, users, index, decoding, Silent())
        return size

    return work


def reference(device: str = "cpu", batch: int = REFERENCE_BATCH) -> Callable[[], int]:
    data, sids = dataset()
    catalogue = load_catalogue(data, sids)
    model = ReferenceModel().to(device)
    test = histories(load_sequences(data.sequences), "test")
    seeds = itertools.count()

    def work() -> int:
        users = test.sample(batch, next(seeds))
        recent = users.pad(np.arange(batch), 23)
        reference_beam_search(model, items_first(catalogue.sids, recent).to(device), BEAMS)
        return batch

    return work


if __name__ == "__main__":
    sides = {
        "maskgr, auto precision": partial(ours, "auto"),
        "maskgr, fp32": partial(ours, "fp32"),
        "maskgr, histories encoded once (approximate)": partial(ours, "auto", approximate=True),
        "maskgr, prefix attention": partial(ours, "auto", attention="prefix"),
    }
    compare("decoding", sides, reference, unit="users")
