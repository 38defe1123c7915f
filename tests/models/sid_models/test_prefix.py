"""Prefix attention: what sees what, two streams against the cache, and the cache against encoding anew."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.models import loading
from pipelines.models.nn.packing import Layout
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


def some_codes(beams: int = 5) -> torch.Tensor:
    return torch.randint(0, V + 1, (2, beams, H), generator=torch.Generator().manual_seed(0))


def test_who_sees_whom_in_two_streams() -> None:
    """n = 3 items of H = 2 tokens, clean and noisy; the first row lacks its first item."""
    real = torch.tensor([[False] * 2 + [True] * 4, [True] * 6])
    layout = Layout.two_streams(real, 2)
    assert layout.position.tolist() == [*range(2, 6), *range(2, 6), *range(6), *range(6)]
    (group,) = layout.groups
    for row in range(2):
        for query in (q for q in range(12) if real[row, q % 6]):
            for key in range(12):
                item, other, noisy = query % 6 // 2, key % 6 // 2, key >= 6
                past = not noisy and other < item and bool(real[row, key % 6])
                own = other == item and noisy == (query >= 6)
                assert bool(group.mask[row, 0, query, key]) == (past or own)
    (causal,) = Layout.causal(real, 2).groups
    assert torch.equal(causal.mask, group.mask[:, :, :6, :6])


def test_the_two_streams_and_the_cache_agree(model: MaskGR) -> None:
    """Every item of a sequence, predicted in one pass, as the decoder predicts it from the items before."""
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(2))
    expected = 0.0
    for row, weight in zip(items, weights, strict=True):
        for place in range(len(row)):
            if row[place] < 0:
                assert not weight[place].any()
                continue
            past = torch.as_tensor(row[:place][row[:place] >= 0])[None]
            masked = torch.as_tensor(weight[place] > 0)
            sid = torch.as_tensor(SIDS[row[place]])
            logp = model.denoiser(past)(torch.where(masked, V, sid)[None, None])[0, 0]  # [H, V]
            expected -= (logp[torch.arange(H), sid] * torch.as_tensor(weight[place])).sum().item()
    assert model(items, weights).item() == pytest.approx(expected, rel=1e-5)


def test_each_item_draws_its_own_rate(model: MaskGR) -> None:
    items = np.tile(np.arange(6), (500, 1))
    _, weights = model.make_training_batch(items, np.random.default_rng(0))
    masked = weights > 0
    assert weights.mean() == pytest.approx(1, abs=0.05)  # unbiased, as E[1/t · masked] is
    assert masked.any((0, 2)).all()
    counts = masked.sum(2).ravel()
    assert np.bincount(counts, minlength=H + 1) / counts.size == pytest.approx(
        [1 / (H + 1)] * (H + 1), abs=0.03
    )


def test_a_batch_with_padding_is_its_members(model: MaskGR) -> None:
    both = model.denoiser(HISTORIES)(some_codes())
    for row, history in enumerate([[3, 7], [5, 2, 9, 4]]):
        for beam in range(5):
            alone = model.denoiser(torch.tensor([history]))(some_codes()[row : row + 1, beam : beam + 1])
            torch.testing.assert_close(alone[0, 0], both[row, beam], **EXACT)


@pytest.mark.parametrize("padded", [True, False])
def test_an_extended_cache_is_the_longer_history_encoded(model: MaskGR, padded: bool) -> None:
    histories = HISTORIES if padded else HISTORIES[:, 2:]
    cache = model.prefill(histories[:, :3] if padded else histories[:, :1])
    for place in range(3 if padded else 1, histories.shape[1]):
        cache = model.extend(cache, histories[:, place])
    assert cache.length == histories.shape[1] * model.tokens_per_item
    torch.testing.assert_close(
        model.expecting(partial(model.states_after, cache), histories)(some_codes()),
        model.denoiser(histories)(some_codes()),
        **EXACT,
    )


def test_an_item_sees_nothing_that_follows_it(model: MaskGR) -> None:
    first, second = model.prefill(torch.tensor([[5, 2, 9]])), model.prefill(torch.tensor([[5, 2, 4]]))
    for (k, v), (other_k, other_v) in zip(first.past, second.past, strict=True):
        for a, b in ((k, other_k), (v, other_v)):
            before = 2 * model.tokens_per_item
            torch.testing.assert_close(a[:, :, :before], b[:, :, :before], **EXACT)
            assert not torch.allclose(a[:, :, before:], b[:, :, before:])


@pytest.mark.parametrize("tokens", TOKENS)
def test_encoding_once_is_another_thing_with_full_attention(tokens: str) -> None:
    """Named approximate for a reason; with no layers between them to carry the masks it would be exact."""
    model = build("full", tokens)
    exact, approximate = (
        model.denoiser(HISTORIES, approximate)(some_codes()) for approximate in (False, True)
    )
    assert not torch.allclose(exact, approximate, atol=1e-3)
    assert (exact.exp() - approximate.exp()).abs().mean() < 0.1
    torch.testing.assert_close(approximate.exp().sum(-1), torch.ones(2, 5, H))
    alone = model.denoiser(torch.tensor([[3, 7]]), True)(some_codes()[:1])
    torch.testing.assert_close(alone[0], approximate[0], **EXACT)


@pytest.mark.parametrize("tokens", TOKENS)
def test_no_history_at_all_can_be_asked(tokens: str) -> None:
    for attention in ATTENTION:
        model = build(attention, tokens)
        nothing = torch.empty(2, 0, dtype=torch.int64)
        nobody = model.denoiser(HISTORIES[:, :0])(some_codes())
        alone = model.expecting(partial(model.states, nothing), nothing)(some_codes())
        torch.testing.assert_close(nobody, alone, **EXACT)


def test_a_forgotten_history_leaves_any_item_alone() -> None:
    items = np.array([[-1, -1, 1, 2, 3], [4, 5, 6, 7, 8], [-1, -1, -1, -1, 9]])
    left = np.stack([drop_histories(items, 0.5, np.random.default_rng(seed)) for seed in range(2000)])
    forgotten = (left[:, :, :-1] < 0).all(2)  # [seeds, B]
    assert forgotten[:, :2].mean() == pytest.approx(0.5, abs=0.03)
    for row, real in enumerate(([1, 2, 3], [4, 5, 6, 7, 8])):
        last = left[forgotten[:, row], row, -1]
        assert set(last) == set(real)
        assert np.array_equal(
            left[~forgotten[:, row], row], np.tile(items[row], ((~forgotten[:, row]).sum(), 1))
        )
    assert (left[:, 2] == items[2]).all()
    assert drop_histories(items, 0.0, np.random.default_rng(0)) is items
