"""BERT4Rec: the share of masked items, and its configuration."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models.item_models.bert4rec import BERT4Rec
from pipelines.models.item_models.config import BERT4RecConfig
from tests.models.item_models.test_cloze import SIZES, N, sequences


@pytest.mark.parametrize("ratio", [0.02, 0.4, 1.0])
def test_a_share_of_the_items_is_masked_and_at_least_one(ratio: float) -> None:
    items = sequences(4000)
    model = BERT4Rec(BERT4RecConfig(**SIZES, mask_ratio=ratio), Catalogue(N))
    visible, weights = model.make_training_batch(items, np.random.default_rng(0))
    np.testing.assert_array_equal(visible, items)
    assert set(np.unique(weights)) <= {0.0, 1.0}
    assert (weights.sum(1) >= 1).all()
    assert not weights[items < 0].any()
    masked = weights[2000:].sum(1)  # sequences without padding: binomial, but 1 instead of 0
    assert masked.mean() == pytest.approx(9 * ratio + (1 - ratio) ** 9, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"mask_ratio": 0.0}, "--mask-ratio is 0"), ({"next_item": 2}, "--next-item is 2")],
)
def test_shares_out_of_their_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BERT4RecConfig(**settings)
