"""Weights over a part of the items, loaded into a model over more items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.base import CountedModel, Recommender
from pipelines.models.registry import MODELS, model_config
from pipelines.processes import Processes
from tests.models.test_every_model import TINY, random_sequences, search, split

OLD, N, H, V = 20, 26, 3, 8
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)
TEXT = np.random.default_rng(1).normal(size=(N, 6)).astype(np.float32)
WHOLE = Catalogue.of(SIDS, V, TEXT)
OWN = {"maskgr": {"tokens": "item", "likelihood": "item", "item_embeddings": True}}
NO_VECTOR = (
    "sasrec",
    "bsarec",
    "bert4rec",
    "maskgr-items",
    "dreamrec",
    "cadirec",
)  # models over item numbers
APPENDED = np.arange(OLD)  # the known items come first
SPREAD = np.sort(np.random.default_rng(2).permutation(N)[:OLD])  # the known items lie among others


def build(name: str, seed: int, catalogue: Catalogue) -> Recommender:
    torch.manual_seed(seed)
    model = loading.build(model_config(name, {**TINY, **OWN.get(name, {})}), catalogue).eval()
    if isinstance(model, CountedModel):
        model.count(random_sequences(seed, model.items), Processes())
    return model


def grow(name: str, known: np.ndarray, folder: Path) -> tuple[Recommender, Recommender]:
    """Return a model over the known items, and a model over all items with its weights."""
    small, large = build(name, 0, WHOLE.subset(known)), build(name, 1, WHOLE)
    loading.save(small, folder / "weights.safetensors")
    loading.load_grown(large, folder / "weights.safetensors", known)
    return small, large


@pytest.mark.parametrize("known", [APPENDED, SPREAD], ids=["appended", "spread"])
@pytest.mark.parametrize("name", MODELS)
def test_old_items_keep_their_scores(name: str, known: np.ndarray, tmp_path: Path) -> None:
    """All items are ranked. Without the new ones, the ranking is that of the model before it grew."""
    small, large = grow(name, known, tmp_path)
    new = np.setdiff1d(np.arange(N), known)
    if name in NO_VECTOR:
        large.rank_new_items(torch.as_tensor(new), TEXT)
    history = [3, 7, 1, 4]
    order = {"unmask": "greedy"} if name == "diffgrm" else {}  # its own order can lose items
    before = search(small, split([history], [0]), SIDS[known], beams=OLD, **order)
    after = search(large, split([known[history].tolist()], [0]), SIDS, beams=N, **order)
    items, scores = after.items[0, :, 0], after.scores[0]
    is_old = np.isin(items, known)
    assert is_old.sum() == OLD and set(items) == set(range(N))
    if name in NO_VECTOR:
        assert is_old[:OLD].all() and (scores[OLD:] == np.finfo(np.float32).min).all()
    np.testing.assert_array_equal(items[is_old], known[before.items[0, :, 0]])
    fall = before.scores[0] - scores[is_old]  # of an item softmax, which has more items now
    np.testing.assert_allclose(fall, fall.mean() if name == "maskgr" else 0.0, rtol=1e-3, atol=1e-4)


def test_rows_after_the_items_stay_last(tmp_path: Path) -> None:
    small, large = grow("maskgr", SPREAD, tmp_path)
    new = np.setdiff1d(np.arange(N), SPREAD)
    old, grown = small.item_embedding.weight, large.item_embedding.weight
    torch.testing.assert_close(grown[SPREAD], old[:OLD])
    assert not grown[-1].any() and not grown[new].any() and grown[SPREAD].any(1).all()
    small, large = grow("bert4rec", SPREAD, tmp_path)
    torch.testing.assert_close(large.embedding.weight[-1], small.embedding.weight[-1])  # MASK
    torch.testing.assert_close(large.embedding.weight[new], build("bert4rec", 1, WHOLE).embedding.weight[new])


def test_a_new_item_is_the_sum_of_its_digits(tmp_path: Path) -> None:
    _, large = grow("maskgr", APPENDED, tmp_path)
    vectors = large.item_vectors(torch.arange(OLD, N))
    digits = large.embedding(large.embedding.item_tokens(torch.arange(OLD, N))).sum(1)
    torch.testing.assert_close(vectors, digits)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    loading.save(build("sasrec", 0, WHOLE.subset(APPENDED)), path)
    other = loading.build(model_config("sasrec", {**TINY, "width": 16}), WHOLE)
    for model in (other, build("bert4rec", 0, WHOLE)):
        with pytest.raises(UserError, match="does not fit the run's config.json"):
            loading.load_grown(model, path, APPENDED)
    with pytest.raises(UserError, match=r"embedding.weight is \(20, 32\) in the file, \(26, 32\)"):
        loading.load(build("sasrec", 0, WHOLE), path)
