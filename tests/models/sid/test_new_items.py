"""Items that an item softmax was not trained on: their logits written out, in every path through the
softmax."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.models import loading
from pipelines.models.sid import item_softmax, new_items
from pipelines.models.sid.new_items import BIAS, NEIGHBORS, SHARPNESS, TEXT_SHARE, NewItems
from pipelines.models.sid_models.maskgr import MaskGR
from tests.models.sid.test_item_softmax import HISTORIES, SIDS, SIZES, H, N, V, agreeing

NEW = [0, 7, 8, 22, 29]
TEXTLESS = 8
TEXT = np.random.default_rng(3).normal(size=(N, 5)).astype(np.float32)
TEXT[TEXTLESS] = 0.0


def model(text: np.ndarray | None = TEXT, **settings: object) -> MaskGR:
    torch.manual_seed(0)
    config = dataclasses.replace(SIZES, **{"attention": "prefix", "repeat_bias": True, **settings})
    made = loading.build(config, Catalogue.of(SIDS, V)).eval()
    with torch.no_grad():
        made.item_embedding.weight.normal_()
        if made.repeat_bias is not None:
            made.repeat_bias.fill_(-1.5)
    made.start_items(torch.tensor(NEW))
    made.rank_new_items(torch.tensor(NEW), text)
    return made


def logits_by_hand(trained: torch.Tensor, text: np.ndarray | None) -> torch.Tensor:
    """Return logits [N] as the module's description says, one new item after the other."""
    logits = trained.clone()
    old = [i for i in range(N) if i not in NEW]
    for new in NEW:
        texts = 0.0
        if text is not None and text[new].any():
            length = np.linalg.norm(text[new]) * np.linalg.norm(text[old], axis=1)
            cosines = text[old] @ text[new] / length
            best = np.argsort(-cosines)[:NEIGHBORS]
            weights = np.exp(SHARPNESS * cosines[best])
            weights /= weights.sum()
            mean = sum(w * math.exp(trained[old[i]]) for w, i in zip(weights, best, strict=True))
            texts = TEXT_SHARE * (math.log(mean) - trained[new].item())
        logits[new] = trained[new] + texts + BIAS
    return logits


def raw_logits(made: MaskGR, codes: torch.Tensor) -> torch.Tensor:
    """Return the logits of all items by vectors and repeat bias alone, [B, K, N]."""
    states = made.denoiser(HISTORIES).states(codes)[:, :, 0]
    seen = torch.stack([(item == HISTORIES).sum(1) for item in range(N)], dim=1)  # [B, N]
    bias = 0.0 if made.repeat_bias is None else made.repeat_bias * seen
    return states @ made.item_vectors().T + torch.as_tensor(bias).expand(2, N)[:, None]


@pytest.mark.parametrize("repeat_bias", [True, False])
@pytest.mark.parametrize("text", [TEXT, None], ids=["texts", "no texts"])
@torch.no_grad()
def test_one_evaluation_scores_new_items_by_digits_and_texts(
    text: np.ndarray | None, repeat_bias: bool
) -> None:
    made = model(text, repeat_bias=repeat_bias)
    codes = torch.full((2, 1, H), V)
    scores = made.denoiser(HISTORIES).score_items(codes, torch.as_tensor(SIDS)).log_probs()
    raw = raw_logits(made, codes)[:, 0]
    expected = torch.stack([logits_by_hand(row, text) for row in raw]).log_softmax(1)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dense", [1, 10_000], ids=["pair by pair", "all items at once"])
@torch.no_grad()
def test_digits_have_the_sums_of_these_probabilities(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_softmax, "DENSE", dense)
    made = model()
    codes = torch.tensor([[[V, V, V], [*SIDS[7, :2], V], [V, SIDS[8, 1], V], list(SIDS[3])]])
    codes = codes.expand(2, -1, -1)
    logp, raw = made.denoiser(HISTORIES)(codes), raw_logits(made, codes)
    for user in range(2):
        for beam in range(4):
            items = agreeing(codes[user, beam].numpy(), SIDS, V)
            share = logits_by_hand(raw[user, beam], TEXT)[items].softmax(0)
            for h in range(H):
                mass = torch.zeros(V).index_add_(0, torch.as_tensor(SIDS[items, h]), share)
                torch.testing.assert_close(logp[user, beam, h].exp(), mass, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_guidance_keeps_new_items() -> None:
    made = model(history_dropout=0.1)
    guided = made.denoiser(HISTORIES).guided(made.denoiser(HISTORIES[:, :0]), 0.0)
    codes, sids = torch.full((2, 1, H), V), torch.as_tensor(SIDS)
    plain = made.denoiser(HISTORIES).score_items(codes, sids).log_probs()
    torch.testing.assert_close(guided.score_items(codes, sids).log_probs(), plain)


def test_neighbors_are_trained_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_items, "CELLS", 2 * N)
    found = NewItems(torch.tensor(NEW), N, TEXT)
    assert found.neighbors.shape == (len(NEW), NEIGHBORS)
    assert not np.isin(found.neighbors.numpy(), NEW).any()
    torch.testing.assert_close(found.weights.sum(1), torch.ones(len(NEW)))
    assert (found.shares > 0).tolist() == [item != TEXTLESS for item in NEW]
    few = NewItems(torch.arange(3, N), N, TEXT)
    assert few.neighbors.shape == (N - 3, 3)


def test_new_items_are_no_part_of_the_weights() -> None:
    assert not [name for name in model().state_dict() if "new_items" in name]
