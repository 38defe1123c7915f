"""Residual k-means on clusters worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.tokenize.config import TokenizeConfig, default_name
from pipelines.tokenize.kmeans import quantize
from tests.tokenize.test_quantization import same_partition

COARSE = np.array([[90, 0], [0, 90], [-90, -90]], np.float32)
FINE = np.array([[3, 0], [-3, 0]], np.float32)


def nested(copies: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors coarse + fine (each pair `copies` times), with the cluster of each at both levels."""
    coarse, fine = np.divmod(np.repeat(np.arange(6), copies), 2)
    return COARSE[coarse] + FINE[fine], coarse, fine


def test_each_layer_finds_the_clusters_that_the_layer_before_left() -> None:
    vectors, coarse, fine = nested()
    found = next(  # three clusters need lucky first centroids: the best of a few seeds
        q
        for q in (
            quantize(vectors, TokenizeConfig(num_levels=2, codebook=3, seed=s), Silent()) for s in range(20)
        )
        if same_partition(q.codes[:, 0], coarse)
    )
    assert {tuple(c) for c in found.centroids[0].round(3)} == {tuple(c) for c in COARSE}
    assert same_partition(found.codes[:, 1] == found.codes[0, 1], fine == fine[0])
    total = 24 / 3 * (COARSE**2).sum() + 24 * 9  # coarse · fine cancels within each cluster
    assert found.relative_error == pytest.approx([24 * 9 / total, 0], abs=1e-6)


def test_the_seed_decides_and_more_layers_extend_the_codes() -> None:
    vectors = np.random.default_rng(2).normal(size=(300, 8)).astype(np.float32)

    def codes(seed: int, num_levels: int = 2) -> np.ndarray:
        return quantize(
            vectors, TokenizeConfig(num_levels=num_levels, codebook=16, seed=seed), Silent()
        ).codes

    assert np.array_equal(codes(0), codes(0))
    assert np.array_equal(codes(0), codes(0, num_levels=3)[:, :2])
    assert not same_partition(codes(0)[:, 0], codes(1)[:, 0])


def test_zero_vectors_cluster_without_a_fault() -> None:
    vectors = np.zeros((50, 4), np.float32)
    vectors[:10] = np.random.default_rng(3).normal(size=(10, 4))
    found = quantize(vectors, TokenizeConfig(num_levels=3, codebook=8), Silent())
    assert len(np.unique(found.codes[10:], axis=0)) == 1
    assert quantize(vectors[10:], TokenizeConfig(num_levels=2, codebook=8), Silent()).relative_error == [0, 0]


def test_unit_residuals_cluster_directions_layer_by_layer() -> None:
    """By hand: residuals are scaled to unit length; the relative quantization error is of unscaled ones."""
    vectors = np.random.default_rng(4).normal(1, 1, (300, 6)).astype(np.float32)
    config = TokenizeConfig(num_levels=3, codebook=8, unit_residuals=True)
    found, before = quantize(vectors, config, Silent()), vectors.copy()
    assert np.array_equal(vectors, before)
    assert found.centroids is None  # a vector is no sum of them
    assert default_name("lsa", config) == "lsa-3x8-unit-residuals"
    with pytest.raises(UserError, match="--unit-residuals means nothing to --method pq"):
        TokenizeConfig(method="pq", unit_residuals=True)
    left = vectors.astype(np.float64)
    for digit in range(3):
        length = np.linalg.norm(left, axis=1, keepdims=True)
        unit = left / length
        centroids = np.stack([unit[found.codes[:, digit] == code].mean(0) for code in range(8)])
        nearest = np.square(unit[:, None] - centroids[None]).sum(2).argmin(1)
        assert (
            nearest == found.codes[:, digit]
        ).mean() > 0.97  # Lloyd's iterations may stop before the last item has moved
        left -= length * centroids[found.codes[:, digit]]
        assert found.relative_error[digit] == pytest.approx(
            np.square(left).sum() / np.square(vectors).sum(), rel=0.03
        )
    scaled = quantize(
        vectors * np.random.default_rng(5).uniform(1, 9, (300, 1)).astype(np.float32), config, Silent()
    )
    assert (scaled.codes == found.codes).mean() > 0.97  # lengths mean nothing
    assert quantize(
        np.zeros((20, 4), np.float32), TokenizeConfig(num_levels=2, codebook=4, unit_residuals=True), Silent()
    ).relative_error == [0, 0]
