"""The shared base of the models of masked items: next-item examples, the loss, both sides of the context."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.models import loading
from pipelines.models.item_models.cloze import Cloze
from pipelines.models.item_models.config import BERT4RecConfig, ClozeConfig, MaskGRItemsConfig

N = 30
SIZES = {"layers": 2, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 8}


def build(config: type[ClozeConfig] = BERT4RecConfig, **settings: object) -> Cloze:
    torch.manual_seed(0)
    return loading.build(config(**SIZES, **settings), Catalogue(N)).eval()


def sequences(rows: int, n: int = 9) -> np.ndarray:
    """Return items [rows, n]; the first half of the rows has 4 columns of padding."""
    items = np.random.default_rng(1).integers(0, N, (rows, n))
    items[: rows // 2, :4] = -1
    return items


@pytest.mark.parametrize("config", [BERT4RecConfig, MaskGRItemsConfig])
def test_the_last_item_of_a_next_item_example_is_its_only_mask(config: type[ClozeConfig]) -> None:
    items, weights = build(config, next_item=1.0).make_training_batch(
        sequences(300), np.random.default_rng(0)
    )
    assert (weights[:, -1] == 1).all()
    assert not weights[:, :-1].any()
    assert (items[:, -1] >= 0).all()


@torch.no_grad()
def test_the_loss_is_its_formula() -> None:
    """The weighted sum of −log softmax at the masked items, one sequence at a time."""
    model, items = build(), np.array([[-1, -1, 3, 7, 1], [5, 2, 9, 4, 8]])
    weights = np.array([[0, 0, 0, 2.0, 0], [0.5, 0, 0, 1.0, 0]], np.float32)
    expected = 0.0
    for row, weight in zip(items, weights, strict=True):
        real = row >= 0
        visible = torch.tensor(np.where(weight > 0, N, row)[real])[None]
        for place in np.flatnonzero(weight[real]):
            state = model.states(visible, visible >= 0, torch.tensor([place]))[0]
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
        real, position = torch.ones(1, 3, dtype=torch.bool), torch.tensor([1])
        assert not torch.allclose(model.states(base, real, position), model.states(other, real, position))


@pytest.mark.parametrize("config", [BERT4RecConfig, MaskGRItemsConfig])
def test_a_sample_of_all_items_is_the_whole(config: type[ClozeConfig]) -> None:
    whole, sampled, few = build(config), build(config, negatives=50_000), build(config, negatives=4)
    batch = whole.make_training_batch(sequences(20), np.random.default_rng(0))
    assert sampled(*batch).item() == pytest.approx(whole(*batch).item(), rel=1e-5)
    assert few(*batch).item() != whole(*batch).item()
