"""BSARec: the split into frequencies, the mix with attention, prefixes as examples, its configuration."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.item_models.bsarec import BSARec, FrequencyFilter
from pipelines.models.item_models.config import BSARecConfig
from pipelines.models.nn.packing import Layout, padding_kept

N, LENGTH, D = 30, 8, 16
SIZES = {"layers": 2, "width": D, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": LENGTH}
REAL = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]], dtype=torch.bool)


def build(**settings: object) -> BSARec:
    torch.manual_seed(0)
    model = loading.build(BSARecConfig(**{**SIZES, **settings}), Catalogue(N)).eval()
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.filter.beta.uniform_(0.5, 2.0)
    return model


def random_rows(seed: int = 0) -> Tensor:
    """Return rows [3, 6, D], zero at padding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*REAL.shape, D, generator=generator) * REAL[:, :, None]


def split_by_hand(row: np.ndarray, length: int, frequencies: int) -> np.ndarray:
    """Return the low-pass part of the last places of a row [n, D] that is padded on the left to `length`.

    The sum over the c lowest frequencies k of the inverse transform, written out.
    """
    padded = np.concatenate([np.zeros((length - len(row), row.shape[1])), row])
    places = np.arange(length)
    low = np.zeros(padded.shape, complex)
    for k in range(-(frequencies // 2), frequencies // 2 + 1):
        coefficient = np.exp(-2j * np.pi * k * places / length) @ padded  # [D]
        low += np.exp(2j * np.pi * k * places / length)[:, None] * coefficient / length
    assert np.abs(low.imag).max() < 1e-9
    return low.real[length - len(row) :]


@pytest.mark.parametrize("keeps_padding", [False, True])
@pytest.mark.parametrize(("length", "frequencies"), [(8, 1), (8, 3), (8, 7), (9, 5), (6, 5)])
@torch.no_grad()
def test_the_split_into_frequencies_by_hand(length: int, frequencies: int, keeps_padding: bool) -> None:
    rows, filter = random_rows(), FrequencyFilter(D, length, frequencies)
    filter.beta.uniform_(0.5, 2.0)
    with padding_kept() if keeps_padding else nullcontext():
        layout = Layout.causal(REAL, 1)
        x = layout.pack(rows)
        if keeps_padding:  # whatever is there must not matter
            x = torch.where(REAL.flatten()[:, None], x, 7.0)
        low, filtered = (layout.pad(part) for part in (filter.low(x, layout), filter(x, layout)))
    for row, real in enumerate(REAL):
        whole = rows[row, real].double().numpy()
        expected = split_by_hand(whole, length, frequencies)
        np.testing.assert_allclose(low[row, real], expected, atol=1e-5)
        scaled = filter.beta.double().numpy() ** 2 * (whole - expected)
        np.testing.assert_allclose(filtered[row, real], expected + scaled, atol=1e-5)


@torch.no_grad()
def test_all_frequencies_together_are_the_input() -> None:
    """The low-pass part of all frequencies, and both parts with β = 1, are the sequence itself."""
    layout = Layout.causal(REAL, 1)
    x = layout.pack(random_rows())
    for length, frequencies in ((8, 9), (7, 7), (6, 99)):
        torch.testing.assert_close(FrequencyFilter(D, length, frequencies).low(x, layout), x)
    torch.testing.assert_close(FrequencyFilter(D, 8, 3)(x, layout), x)


@torch.no_grad()
def test_without_the_filter_it_is_a_transformer() -> None:
    """α = 0: blocks of causal attention, norms after the sums, written out for a single sequence."""
    model, items = build(filter_share=0.0), torch.tensor([[3, 7, 1, 4, 9]])
    n, encoder = items.shape[1], model.encoder
    x = model.embedding.weight[items[0]] + encoder.positions.weight[:n].flip(0)  # the last item has place 0
    x = encoder.norm(x)
    later = torch.ones(n, n, dtype=torch.bool).triu(1)
    for block in encoder.blocks:
        q, k, v = (part.unflatten(1, (2, D // 2)).transpose(0, 1) for part in block.qkv(x).chunk(3, 1))
        weights = (q @ k.transpose(1, 2) / (D // 2) ** 0.5).masked_fill(later, -torch.inf).softmax(-1)
        x = block.norm(x + block.out((weights @ v).transpose(0, 1).flatten(1)))
        x = block.mlp_norm(x + block.down(F.gelu(block.up(x))))
    scores = model.scores(items, torch.tensor([0]))
    torch.testing.assert_close(scores[0], model.embedding.weight @ x[-1])


@torch.no_grad()
def test_the_filter_alone_ignores_attention() -> None:
    """α = 1: the weights of attention do not matter; for any other α they do."""
    history, user = torch.tensor([[3, 7, 1, 4]]), torch.tensor([0])
    for share, equal in ((1.0, True), (0.9, False)):
        model = build(filter_share=share)
        before = model.scores(history, user)
        for block in model.encoder.blocks:
            block.qkv.weight.normal_()
            block.out.weight.normal_()
        assert torch.equal(model.scores(history, user), before) == equal


@torch.no_grad()
def test_a_row_predicts_its_last_item_from_the_items_before_it_alone() -> None:
    """The loss is that of the last items, given the scores after the items before them."""
    model, rows = build(), np.array([[-1, -1, 3, 7, 1], [5, 2, 9, 4, 8]])
    items, weights = model.make_training_batch(rows, np.random.default_rng(0))
    assert weights.tolist() == [[0, 0, 0, 0, 1]] * 2
    expected = 0.0
    for row in ([3, 7, 1], [5, 2, 9, 4, 8]):
        scores = model.scores(torch.tensor([row[:-1]]), torch.tensor([0]))[0]
        expected -= scores.log_softmax(0)[row[-1]].item()
    assert model(items, weights).item() == pytest.approx(expected, rel=1e-5)
    assert model.scores_within(torch.as_tensor(rows)) is None


@torch.no_grad()
def test_the_filter_sees_later_items() -> None:
    """The reason for prefixes: with a filter, the state at an item depends on the items after it."""
    real, places = torch.ones(1, 4, dtype=torch.bool), torch.tensor([1])
    for share, equal in ((0.0, True), (0.7, False)):
        model = build(filter_share=share)
        one, other = (model.states(torch.tensor([row]), real, places) for row in ([3, 7, 1, 4], [3, 7, 1, 5]))
        assert torch.allclose(one, other, atol=1e-6) == equal


def test_every_loss_reaches_every_parameter() -> None:
    for settings in (
        {"label_smoothing": 0.2, "repeat_bias": True},
        {"negatives": 5, "repeat_bias": True},
        {"loss": "bce"},
        {"loss": "gbce", "negatives": 5},
    ):
        model = build(**settings)
        rows = np.array([[3, 7, 3], [-1, 2, 9]])
        model(*model.make_training_batch(rows, np.random.default_rng(0))).backward()
        assert all(p.grad is not None and p.grad.to_dense().isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low_frequencies": 4}, "--low-frequencies 4 must be odd"),
        ({"filter_share": 1.5}, "--filter-share is 1.5"),
        ({"loss": "bce", "repeat_bias": True}, "--repeat-bias needs --loss softmax"),
        ({"loss": "gbce"}, "needs --negatives"),
    ],
)
def test_options_that_exclude_each_other_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BSARecConfig(**settings)
