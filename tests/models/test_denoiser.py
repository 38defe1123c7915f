"""The denoiser of independent digits compared with plain Python."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from pipelines.models import denoiser as denoiser_module
from pipelines.models.denoiser import IndependentDigits
from tests.decode.models import TableModel, catalogue

B, H, V = 2, 3, 4
SIDS = torch.as_tensor(catalogue(12, H, V))
CODES = torch.tensor([[[V, V, V], [1, V, V], [V, 0, 3]]] * B)  # [B, 3, H]


def test_refining_returns_the_log_probabilities_of_the_last_evaluation() -> None:
    """Digits that are unmasked later change nothing, and the model is not evaluated again."""
    model = TableModel(B, H, V)
    denoiser = IndependentDigits(model)
    logp = denoiser(CODES)
    same = torch.arange(3).expand(B, -1)
    assert torch.equal(denoiser.refine(CODES, same), logp)
    origin = torch.tensor([[2, 2, 0, 1], [1, 0, 0, 2]])
    refined = denoiser.refine(torch.zeros(B, 4, H, dtype=torch.int64), origin)
    for user, beam in itertools.product(range(B), range(4)):
        assert torch.equal(refined[user, beam], logp[user, origin[user, beam]])
    assert model.evaluations == 1
    assert denoiser.agreeing(CODES) is None


def test_refining_uses_the_last_of_several_evaluations() -> None:
    denoiser = IndependentDigits(TableModel(B, H, V))
    denoiser(CODES)
    logp = denoiser(CODES.flip(1))
    assert torch.equal(denoiser.refine(CODES, torch.arange(3).expand(B, -1)), logp)


def test_an_item_scores_the_sum_of_its_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoiser_module, "ITEMS", 5)
    denoiser, masked = IndependentDigits(TableModel(B, H, V)), CODES[:, :1]
    logp = denoiser(masked)[:, 0]  # [B, H, V]
    expected = [
        [sum(logp[user, h, c].item() for h, c in enumerate(sid)) for sid in SIDS] for user in range(B)
    ]
    scores = denoiser.score_items(masked, SIDS)
    for part in (slice(None), slice(2, 7), slice(11, 40)):
        rows = [row[part] for row in expected]
        torch.testing.assert_close(scores.of(part), torch.tensor(rows), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_guidance_extrapolates_from_the_unconditional_model(weight: float) -> None:
    """Each digit has p(code | history)^(1 + w) / p(code)^w, normalized over its codes."""
    one, other = TableModel(B, H, V, 1), TableModel(B, H, V, 2)
    guided = IndependentDigits(one).guided(IndependentDigits(other), weight)
    a, b = one(CODES).double().exp(), other(CODES).double().exp()
    expected: Tensor = a ** (1 + weight) / b**weight
    expected = expected / expected.sum(-1, keepdim=True)
    logp = guided(CODES)
    torch.testing.assert_close(logp.double().exp(), expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(guided.refine(CODES, torch.arange(3).expand(B, -1)), logp)
