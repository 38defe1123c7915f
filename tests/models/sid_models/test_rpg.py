"""RPG: its item embeddings, the loss of all digits at once, and the score of every item, compared with plain
sums.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models.sid_models.config import RPGConfig
from pipelines.models.sid_models.rpg import RPG

SIZES = {"layers": 1, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "temperature": 0.2}


def build(sids: np.ndarray, codes: int, **sizes: float) -> RPG:
    """Return a model with projections that are not zero."""
    torch.manual_seed(0)
    model = RPG(RPGConfig(**{**SIZES, **sizes}), Catalogue.of(sids, codes)).eval()
    torch.nn.init.normal_(model.projection)
    return model


def residual(items: int = 40) -> np.ndarray:
    """Return SIDs of four digits and a deduplication digit, which is nearly always 0, as of `maskgr
    tokenize`.
    """
    sids = np.random.default_rng(0).integers(0, 6, (items, 5))
    sids[:, 4] = 0
    sids[1] = sids[0]
    sids[1, 4] = 1
    return sids


def state(model: RPG, history: list[int]) -> torch.Tensor:
    """Return the state after a history, alone in its batch."""
    items = torch.tensor([history])
    return model.states(items, items >= 0, torch.tensor([len(history) - 1]))[0]


def by_hand(model: RPG, state: torch.Tensor, temperature: float) -> np.ndarray:
    """Return the log-probabilities [H, V] of a state, computed digit by digit and code by code."""
    H, V = model.digits, model.codes
    table, s = model.embedding.weight.detach().double().numpy(), state.detach().double().numpy()
    logp = np.zeros((H, V))
    for h in range(H):
        projected = s @ model.projection[h].detach().double().numpy()
        predicted = s + projected / (1 + np.exp(-projected))  # g_h(s)
        for c in range(V):
            code = table[h * V + c]
            logp[h, c] = predicted @ code / np.linalg.norm(predicted) / np.linalg.norm(code) / temperature
        logp[h] -= np.log(np.exp(logp[h]).sum())
    return logp


def test_an_item_is_embedded_as_the_mean_of_its_digits() -> None:
    sids = residual()
    model = build(sids, 6)
    rows = [[6 * h + int(c) for h, c in enumerate(sids[item])] for item in (3, 1)]
    truth = torch.stack([model.embedding.weight[row].mean(0) for row in rows])
    torch.testing.assert_close(model.embed(torch.tensor([3, 1])), truth)


@pytest.mark.parametrize("temperature", [0.2, 0.7])
def test_the_loss_is_that_of_all_digits_of_every_next_item(temperature: float) -> None:
    sids = residual()
    model = build(sids, 6, temperature=temperature)
    items = np.array([[-1, 4, 7, 1], [5, 0, 30, 2]])
    items, weights = model.make_training_batch(items, np.random.default_rng(0))
    assert weights.tolist() == [[0, 0, 1, 1], [0, 1, 1, 1]]
    weights[1, 2] = 0.5
    truth = 0.0
    for row, of_row in zip(items.tolist(), weights.tolist(), strict=True):
        for position, weight in enumerate(of_row):
            if weight:
                logp = by_hand(model, state(model, [i for i in row[:position] if i >= 0]), temperature)
                truth -= weight * sum(logp[h, c] for h, c in enumerate(sids[row[position]]))
    assert model(items, weights).item() == pytest.approx(truth, rel=1e-5)


def test_label_smoothing_spreads_each_digit_over_its_codes() -> None:
    sids = residual()
    items = np.array([[3, 7]])
    model = build(sids, 6, label_smoothing=0.25)
    logp = by_hand(model, state(model, [3]), 0.2)
    truth = -sum(0.75 * logp[h, c] + 0.25 * logp[h].mean() for h, c in enumerate(sids[7]))
    assert model(*model.make_training_batch(items, np.random.default_rng(0))).item() == pytest.approx(
        truth, rel=1e-5
    )


@pytest.mark.parametrize("digits", [5, 32])
def test_the_score_of_an_item_is_the_sum_of_its_digits(digits: int) -> None:
    """Residual digits, and 32 random digits of 256 codes, which do not fit into a 64-bit number."""
    sids, codes = (
        (residual(), 6) if digits == 5 else (np.random.default_rng(1).integers(0, 256, (50, 32)), 256)
    )
    model = build(sids, codes)
    history = torch.tensor([[-1, 4, 7], [2, 9, 31]])
    with torch.inference_mode():
        result = model.scores(history, torch.arange(2))
    assert result.dtype == torch.float32
    for row, scores in zip(history.tolist(), result, strict=True):
        logp = by_hand(model, state(model, [i for i in row if i >= 0]), 0.2)
        truth = [sum(logp[h, c] for h, c in enumerate(sid)) for sid in sids]
        np.testing.assert_allclose(scores, truth, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"label_smoothing": 1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong)).replace("_", "-")):
        RPGConfig(**wrong)
