"""What is the cloze models' own: which items they mask, and that a masked item is predicted from both sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.item_models.bert4rec import Cloze
from pipelines.models.item_models.config import BERT4RecConfig, ClozeConfig, MaskGRItemsConfig

N = 30
SIZES = {"layers": 2, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 8}


def build(config: type[ClozeConfig] = BERT4RecConfig, **settings: object) -> Cloze:
    torch.manual_seed(0)
    return loading.build(config(**SIZES, **settings), Catalogue(N)).eval()


def sequences(rows: int, n: int = 9) -> np.ndarray:
    items = np.random.default_rng(1).integers(0, N, (rows, n))
    items[: rows // 2, :4] = -1
    return items


def test_bert4rec_masks_its_share_and_never_nothing() -> None:
    items = sequences(4000)
    for ratio in (0.02, 0.4, 1.0):
        shown, weights = build(mask_ratio=ratio).make_training_batch(items, np.random.default_rng(0))
        np.testing.assert_array_equal(shown, items)
        assert set(np.unique(weights)) <= {0.0, 1.0}
        assert (weights.sum(1) >= 1).all()
        assert not weights[items < 0].any()
        whole = weights[2000:].sum(1)  # binomial, but 1 where it would be 0
        assert whole.mean() == pytest.approx(9 * ratio + (1 - ratio) ** 9, rel=0.05)


def test_maskgr_items_masks_at_every_rate_and_counts_each_item_once_on_average() -> None:
    items = sequences(20_000)
    _, weights = build(MaskGRItemsConfig).make_training_batch(items, np.random.default_rng(0))
    masked = (weights > 0)[10_000:].sum(1)
    np.testing.assert_allclose(
        np.bincount(masked, minlength=10) / len(masked), 0.1, atol=0.02
    )  # uniform over 0 … 9
    np.testing.assert_allclose(weights[items >= 0].mean(), 1.0, atol=0.05)


@pytest.mark.parametrize("config", [BERT4RecConfig, MaskGRItemsConfig])
def test_next_item_examples_end_in_their_only_mask(config: type[ClozeConfig]) -> None:
    shown, weights = build(config, next_item=1.0).make_training_batch(
        sequences(300), np.random.default_rng(0)
    )
    assert (weights[:, -1] == 1).all()
    assert not weights[:, :-1].any()
    assert (shown[:, -1] >= 0).all()


@torch.no_grad()
def test_the_loss_is_the_cloze_written_out() -> None:
    model, items = build(), np.array([[-1, -1, 3, 7, 1], [5, 2, 9, 4, 8]])
    weights = np.array([[0, 0, 0, 2.0, 0], [0.5, 0, 0, 1.0, 0]], np.float32)
    expected = 0.0
    for row, weight in zip(items, weights, strict=True):
        real = row >= 0
        shown = np.where(weight > 0, N, row)[real]
        for place in np.flatnonzero(weight[real]):
            state = model.states(
                torch.tensor(shown)[None], torch.ones(1, len(shown), dtype=torch.bool), torch.tensor([place])
            )[0]
            logp = (state @ model.embedding.weight[:-1].T).log_softmax(0)
            expected -= weight[real][place] * logp[row[real][place]].item()
    assert model(items, weights).item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_a_mask_sees_both_sides() -> None:
    model = build()
    base = torch.tensor([[3, N, 5]])
    for place in (0, 2):
        other = base.clone()
        other[0, place] = 9
        real, asked = torch.ones(1, 3, dtype=torch.bool), torch.tensor([1])
        assert not torch.allclose(model.states(base, real, asked), model.states(other, real, asked))


@pytest.mark.parametrize("config", [BERT4RecConfig, MaskGRItemsConfig])
def test_a_sample_of_the_catalogue_nears_the_whole(config: type[ClozeConfig]) -> None:
    whole, few = build(config), build(config, negatives=50_000)
    drawn = whole.make_training_batch(sequences(20), np.random.default_rng(0))
    assert few(*drawn).item() == pytest.approx(whole(*drawn).item(), rel=1e-2)
    assert few(*drawn).item() != whole(*drawn).item()


@pytest.mark.parametrize(
    ("wrong", "named"), [({"mask_ratio": 0.0}, "--mask-ratio is 0"), ({"next_item": 2}, "--next-item is 2")]
)
def test_shares_outside_their_range_are_refused(wrong: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        BERT4RecConfig(**wrong)
