"""MaskGR over item ids: masking rates and loss weights."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.data.catalogue import Catalogue
from pipelines.models.item_models.config import MaskGRItemsConfig
from pipelines.models.item_models.maskgr_items import MaskGRItems
from tests.models.item_models.test_cloze import SIZES, N, sequences


@pytest.fixture
def model() -> MaskGRItems:
    return MaskGRItems(MaskGRItemsConfig(**SIZES), Catalogue(N))


def test_masking_rates_are_uniform_and_weights_unbiased(model: MaskGRItems) -> None:
    items = sequences(20_000)
    _, weights = model.make_training_batch(items, np.random.default_rng(0))
    masked = (weights > 0)[10_000:].sum(1)  # of sequences without padding: uniform over 0 … 9
    np.testing.assert_allclose(np.bincount(masked, minlength=10) / len(masked), 0.1, atol=0.02)
    np.testing.assert_allclose(weights[items >= 0].mean(), 1.0, atol=0.05)


def test_a_single_item_is_always_masked(model: MaskGRItems) -> None:
    items = np.full((50, 3), -1)
    items[:, 2] = 7
    _, weights = model.make_training_batch(items, np.random.default_rng(0))
    assert (weights == [0, 0, 1]).all()
