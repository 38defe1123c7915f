"""Digit embeddings that start from texts: the centroids of residual k-means up to a turn, and what a model makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.models import loading
from pipelines.models.sid.embedding import digit_centroids
from pipelines.models.sid_models.config import MaskGRConfig

SIDS = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [2, 0, 0]])
TEXT = np.array([[1.0, 0, 0, 0], [3, 0, 0, 0], [5, 0, 0, 0], [-9, 0, 0, 0]], np.float32)


def test_by_hand() -> None:
    """On a line, mean 0 and mean square 29. The first digit's codes are at 3 and −9, and leave −2, 0, 2 and 0 to the second's −1 and 1."""
    found = digit_centroids(SIDS, 3, TEXT, 2) * np.sqrt(29)
    assert found.shape == (2, 3, 2)
    sign = np.sign(found[0, 0, 0])  # an axis has two directions
    np.testing.assert_allclose(sign * found[0], [[3, 0], [0, 0], [-9, 0]], atol=1e-5)
    np.testing.assert_allclose(sign * found[1], [[-1, 0], [1, 0], [0, 0]], atol=1e-5)


@pytest.mark.parametrize("width", [3, 6, 10])
def test_an_items_digits_sum_to_its_text(width: int) -> None:
    """With a code of its own for each item nothing is left; products are kept as far as there are axes for them."""
    rng = np.random.default_rng(0)
    text = rng.normal(size=(8, 6)).astype(np.float32) * [4, 3, 2, 0.01, 0.01, 0.01] + 5
    sids = np.stack((np.arange(8) // 2, np.arange(8) % 2, np.zeros(8, np.int64)), axis=1)
    found = digit_centroids(sids, 4, text.astype(np.float32), width)
    items = found[0][sids[:, 0]] + found[1][sids[:, 1]]
    first = np.stack([text[sids[:, 0] == c].mean(0) for c in sids[:, 0]]) - text.mean(0)
    left = text - text.mean(0) - first
    second = np.stack([left[sids[:, 1] == c].mean(0) for c in sids[:, 1]])
    expected = (first + second) / np.sqrt(((text - text.mean(0)) ** 2).sum(1).mean())
    np.testing.assert_allclose(items @ items.T, expected @ expected.T, atol=0.01)


def test_a_model_starts_with_them_and_keeps_the_rest_as_it_was() -> None:
    sizes = {"layers": 1, "width": 16, "heads": 2, "mlp": 32, "tokens": "item"}
    models = []
    for centroids in (False, True):
        torch.manual_seed(0)
        catalogue = Catalogue.of(SIDS, 3, TEXT)
        models.append(loading.build(MaskGRConfig(**sizes, centroids=centroids), catalogue))
        models[-1].start(catalogue)
    plain, started = (model.state_dict() for model in models)
    torch.testing.assert_close(
        started["embedding.weight"][:6], torch.as_tensor(digit_centroids(SIDS, 3, TEXT, 16)).flatten(0, 1)
    )
    for name in plain:
        kept = slice(6, None) if name == "embedding.weight" else slice(None)
        torch.testing.assert_close(started[name][kept], plain[name][kept], rtol=0, atol=0)
    assert models[1].config.training_needs == ("sids", "embeddings")


def test_a_trained_model_needs_no_texts_for_them() -> None:
    """They are in its weights: an evaluation builds it from the semantic IDs alone."""
    config = MaskGRConfig(layers=1, width=16, heads=2, mlp=32, tokens="item", centroids=True)
    assert config.needs == ("sids",)
    loading.build(config, Catalogue.of(SIDS, 3))
