"""Prefix attention: two streams compared with the cache, and the cache compared with encoding anew."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.models import loading
from pipelines.models.objectives.masking import drop_histories
from pipelines.models.sid_models.config import ATTENTION, TOKENS, MaskGRConfig
from pipelines.models.sid_models.maskgr import MaskGR

N, H, V = 30, 3, 8
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)
HISTORIES = torch.tensor([[-1, -1, 3, 7], [5, 2, 9, 4]])
EXACT = {"atol": 2e-6, "rtol": 1e-5}


def build(attention: str = "prefix", tokens: str = "digit") -> MaskGR:
    torch.manual_seed(0)
    sizes = MaskGRConfig(
        layers=3, width=16, heads=2, mlp=32, dropout=0.0, max_items=6, attention=attention, tokens=tokens
    )
    return loading.build(sizes, Catalogue.of(SIDS, V)).eval()


@pytest.fixture(params=TOKENS)
def model(request: pytest.FixtureRequest) -> MaskGR:
    return build(tokens=request.param)


def random_codes(beams: int = 5) -> torch.Tensor:
    """Return random codes with masked digits, [2, K, H]."""
    return torch.randint(0, V + 1, (2, beams, H), generator=torch.Generator().manual_seed(0))


def test_the_two_streams_and_the_cache_agree(model: MaskGR) -> None:
    """Training predicts every item of a sequence in one pass, as decoding predicts it from the items before
    it.
    """
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(2))
    expected = 0.0
    for row, weight in zip(items, weights, strict=True):
        for position in range(len(row)):
            if row[position] < 0:
                assert not weight[position].any()
                continue
            history = torch.as_tensor(row[:position][row[:position] >= 0])[None]
            masked = torch.as_tensor(weight[position] > 0)
            sid = torch.as_tensor(SIDS[row[position]])
            logp = model.denoiser(history)(torch.where(masked, V, sid)[None, None])[0, 0]  # [H, V]
            expected -= (logp[torch.arange(H), sid] * torch.as_tensor(weight[position])).sum().item()
    assert model(items, weights).item() == pytest.approx(expected, rel=1e-5)


def test_each_item_has_its_own_masking_rate(model: MaskGR) -> None:
    items = np.tile(np.arange(6), (500, 1))
    _, weights = model.make_training_batch(items, np.random.default_rng(0))
    masked = weights > 0
    assert weights.mean() == pytest.approx(1, abs=0.05)  # unbiased, as E[1/t · masked] is
    assert masked.any((0, 2)).all()
    counts = masked.sum(2).ravel()
    assert np.bincount(counts, minlength=H + 1) / counts.size == pytest.approx(
        [1 / (H + 1)] * (H + 1), abs=0.03
    )


def test_a_batch_with_padding_equals_its_members(model: MaskGR) -> None:
    both = model.denoiser(HISTORIES)(random_codes())
    for row, history in enumerate([[3, 7], [5, 2, 9, 4]]):
        for beam in range(5):
            alone = model.denoiser(torch.tensor([history]))(random_codes()[row : row + 1, beam : beam + 1])
            torch.testing.assert_close(alone[0, 0], both[row, beam], **EXACT)


@pytest.mark.parametrize("padded", [True, False])
def test_an_extended_cache_is_the_longer_history_encoded(model: MaskGR, padded: bool) -> None:
    histories = HISTORIES if padded else HISTORIES[:, 2:]
    cache = model.prefill(histories[:, :3] if padded else histories[:, :1])
    for position in range(3 if padded else 1, histories.shape[1]):
        cache = model.extend(cache, histories[:, position])
    assert cache.length == histories.shape[1] * model.tokens_per_item
    torch.testing.assert_close(
        model.objective.denoiser(partial(model.states_after, cache), histories)(random_codes()),
        model.denoiser(histories)(random_codes()),
        **EXACT,
    )


def test_an_item_sees_nothing_that_follows_it(model: MaskGR) -> None:
    first, second = model.prefill(torch.tensor([[5, 2, 9]])), model.prefill(torch.tensor([[5, 2, 4]]))
    for (k, v), (other_k, other_v) in zip(first.keys_values, second.keys_values, strict=True):
        for a, b in ((k, other_k), (v, other_v)):
            before = 2 * model.tokens_per_item
            torch.testing.assert_close(a[:, :, :before], b[:, :, :before], **EXACT)
            assert not torch.allclose(a[:, :, before:], b[:, :, before:])


@pytest.mark.parametrize("tokens", TOKENS)
def test_encoding_once_is_approximate_with_full_attention(tokens: str) -> None:
    """The states of the history would depend on the masked digits after it."""
    model = build("full", tokens)
    exact, approximate = (
        model.denoiser(HISTORIES, approximate=approximate)(random_codes()) for approximate in (False, True)
    )
    assert not torch.allclose(exact, approximate, atol=1e-3)
    assert (exact.exp() - approximate.exp()).abs().mean() < 0.1
    torch.testing.assert_close(approximate.exp().sum(-1), torch.ones(2, 5, H))
    alone = model.denoiser(torch.tensor([[3, 7]]), approximate=True)(random_codes()[:1])
    torch.testing.assert_close(alone[0], approximate[0], **EXACT)


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_history_may_be_empty(tokens: str) -> None:
    for attention in ATTENTION:
        model = build(attention, tokens)
        empty = torch.empty(2, 0, dtype=torch.int64)
        log_probs = model.denoiser(HISTORIES[:, :0])(random_codes())
        full = model.objective.denoiser(partial(model.states, empty), empty)(random_codes())
        torch.testing.assert_close(log_probs, full, **EXACT)


def test_a_dropped_history_leaves_one_item_of_the_sequence() -> None:
    items = np.array([[-1, -1, 1, 2, 3], [4, 5, 6, 7, 8], [-1, -1, -1, -1, 9]])
    kept = np.stack([drop_histories(items, 0.5, np.random.default_rng(seed)) for seed in range(2000)])
    dropped = (kept[:, :, :-1] < 0).all(2)  # [seeds, B]
    assert dropped[:, :2].mean() == pytest.approx(0.5, abs=0.03)
    for row, real in enumerate(([1, 2, 3], [4, 5, 6, 7, 8])):
        last = kept[dropped[:, row], row, -1]
        assert set(last) == set(real)
        assert np.array_equal(kept[~dropped[:, row], row], np.tile(items[row], ((~dropped[:, row]).sum(), 1)))
    assert (kept[:, 2] == items[2]).all()
    assert drop_histories(items, 0.0, np.random.default_rng(0)) is items
