"""LIGER: its two losses written out, its query, and cold items, which unified retrieval adds once each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.data.sequences import Sequences
from pipelines.data.splits import Split, histories
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.recommend import Recommendations, recommend
from pipelines.evaluate.run import evaluate_run
from pipelines.models import loading
from pipelines.models.sid_models.config import LIGERConfig
from pipelines.models.sid_models.liger import LIGER
from pipelines.models.sid_models.tiger import TIGER
from pipelines.workspace import Workspace
from tests.conftest import ListProgress

N, H, V, D, E = 30, 3, 8, 16, 10
Maskgr = Callable[..., subprocess.CompletedProcess[str]]
BARE = 7  # an item without text
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)
TEXT = (
    np.random.default_rng(1).normal(size=(N, E)).astype(np.float32)
    * np.linspace(0.1, 5, N, dtype=np.float32)[:, None]
)
TEXT[BARE] = 0
HISTORIES = torch.tensor([[-1, -1, 3, BARE], [5, 2, 9, 4]])
SPLIT = Split(np.array([3, BARE, 5, 2, 9, 4]), np.array([0, 2, 6]), np.arange(2), np.array([[1], [2]]))


def build(**sizes: object) -> LIGER:
    torch.manual_seed(0)
    config = LIGERConfig(
        **{"layers": 2, "width": D, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 6, **sizes}
    )
    return loading.build(config, Catalogue.of(SIDS, V, TEXT)).eval()


def search(model: LIGER, cold: list[int] | None, **decoding: object) -> Recommendations:
    split = Split(
        SPLIT.items,
        SPLIT.offsets,
        SPLIT.users,
        SPLIT.targets,
        None if cold is None else np.setdiff1d(np.arange(N), cold),
    )
    return recommend(
        model, split, PartialIndex(SIDS, V), resolve_decoding(Decoding(**decoding), model), ListProgress()
    )


def test_the_loss_is_that_of_digits_and_of_cosines() -> None:
    """Divided by the sum of the weights, the loss is a mean over digits plus a mean over targets. With many
    negatives the sampled loss is close to that of all items.
    """
    model = build()
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(0))
    units = F.normalize(torch.as_tensor(TEXT))
    cosines = (
        F.normalize(model.dense.leave(model.dense.norm(model.teacher_forced(items, weights, None)[0][:, 0])))
        @ units.T
    )
    dense = F.cross_entropy(cosines / 0.07, torch.tensor([BARE, 4]))
    digits = TIGER.forward(model, items, weights) / weights.sum()
    assert (model(items, weights) / weights.sum()).item() == pytest.approx((digits + dense).item(), rel=1e-5)
    sampled = build(negatives=4000)(items, weights) / weights.sum()
    assert sampled.item() == pytest.approx((digits + dense).item(), rel=0.03)


def test_the_query_is_that_of_training_and_the_history_s_texts_have_an_effect() -> None:
    model = build()
    items, weights = model.make_training_batch(np.array([[5, 2, 9, 4, 1]]), np.random.default_rng(0))
    query = model.dense_query(HISTORIES[1:])
    torch.testing.assert_close(
        query, model.dense.query(model.teacher_forced(items, weights, None)[0][:, 0]), atol=2e-6, rtol=1e-5
    )
    logp = model.denoiser(HISTORIES[1:])(torch.full((1, 1, H), V))
    model.dense.text[9] = -model.dense.text[9]
    assert (model.dense_query(HISTORIES[1:]) - query).abs().max() > 1e-4
    assert (model.denoiser(HISTORIES[1:])(torch.full((1, 1, H), V)) - logp).abs().max() > 1e-4


def test_a_cold_item_is_found_by_unified_retrieval_only() -> None:
    """The text of the cold item is the one that the model predicts for the first user."""
    model = build()
    generative = search(model, None, retrieval="generative", beams=5)
    cold = next(i for i in range(10, N) if i not in generative.items)
    model.dense.text[cold] = F.normalize(model.dense_query(HISTORIES))[0].detach()
    assert cold not in search(model, [cold], retrieval="generative", beams=5).items
    assert cold not in search(model, [], retrieval="unified", beams=5).items
    result = search(model, [cold], retrieval="unified", beams=5)
    assert result.items[0, 0] == [cold]
    assert (
        result.items[0, 1:].tolist() == search(model, [], retrieval="unified", beams=5).items[0, :4].tolist()
    )


@pytest.mark.parametrize("constrained", [True, False])
def test_no_item_occurs_twice(constrained: bool) -> None:
    """If all items are cold, unified retrieval is dense retrieval, and the items of the beams do not occur
    again.
    """
    model = build()
    for beams in (4, N):
        unified = search(model, list(range(N)), retrieval="unified", beams=beams, constrained=constrained)
        dense = search(model, None, retrieval="dense", beams=beams)
        assert np.array_equal(unified.items, dense.items)
        np.testing.assert_allclose(unified.scores, dense.scores, atol=1e-4)


def test_warm_items_are_those_of_the_training_interactions() -> None:
    sequences = Sequences(np.array([0, 1, 2, 3, 4, 4, 1, 5, 6, 7], np.int32), np.array([0, 5, 10]))
    for split in ("validation", "test"):
        assert histories(sequences, split).warm_items.tolist() == [0, 1, 2, 4, 5]
        assert histories(sequences, split, 2).sample(1, 0).warm_items.tolist() == [0, 4]


def test_from_a_data_set_to_its_tables(
    toy: Workspace, maskgr: Callable[..., subprocess.CompletedProcess[str]], progress: ListProgress
) -> None:
    sizes = ("--sids", 2, "--codebook", 16, "--user-tokens", 7)
    done = maskgr("train", "--model", "liger", "--preset", "smoke", *sizes, "--steps", 20, "--validations", 1)
    assert done.returncode == 0, done.stderr
    assert "unified-left-to-right-k10-constrained" in done.stderr
    for retrieval, description in (
        (None, "unified retrieval: left-to-right, 3 function evaluations (1+1+1 digits)"),
        ("dense", "text embeddings predicted by the decoder's first state · dense retrieval, 20 of 60 items"),
        ("generative", "16 codes · left-to-right, 3 function evaluations"),
    ):
        config = EvalConfig(Decoding(retrieval=retrieval))
        assert description in evaluate_run(toy, toy.require_run(), config, progress).description
    with pytest.raises(UserError, match="--horizon 2 has no effect on --model liger, which recommends one"):
        LIGERConfig().check_horizon(2)
