"""Residual k-means on clusters worked out by hand, and the deduplication digit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.progress import Silent
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.kmeans import group_equal, residual_kmeans

COARSE = np.array([[90, 0], [0, 90], [-90, -90]], np.float32)
FINE = np.array([[3, 0], [-3, 0]], np.float32)


def nested(copies: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors coarse + fine (each pair `copies` times), with the cluster of each at both levels."""
    coarse, fine = np.divmod(np.repeat(np.arange(6), copies), 2)
    return COARSE[coarse] + FINE[fine], coarse, fine


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a[:, None] == a, b[:, None] == b))


def test_each_layer_finds_the_clusters_that_the_layer_before_left() -> None:
    vectors, coarse, fine = nested()
    found = next(  # three clusters need lucky first centroids: the best of a few seeds
        q
        for q in (residual_kmeans(vectors, TokenizeConfig(layers=2, codebook=3, seed=s), Silent()) for s in range(20))
        if same_partition(q.codes[:, 0], coarse)
    )
    assert {tuple(c) for c in found.centroids[0].round(3)} == {tuple(c) for c in COARSE}
    assert same_partition(found.codes[:, 1] == found.codes[0, 1], fine == fine[0])
    total = 24 / 3 * (COARSE**2).sum() + 24 * 9  # coarse · fine cancels within each cluster
    assert found.error == pytest.approx([24 * 9 / total, 0], abs=1e-6)


@pytest.mark.parametrize("codebook", [4, 16, 300])  # 300: more codes than vectors
def test_centroids_sum_to_the_vectors_up_to_the_reported_error(codebook: int) -> None:
    vectors = np.random.default_rng(1).normal(1, 1, (200, 8)).astype(np.float32)
    before = vectors.copy()
    found = residual_kmeans(vectors, TokenizeConfig(layers=3, codebook=codebook), Silent())
    rebuilt = np.zeros_like(vectors)
    for layer in range(3):
        rebuilt += found.centroids[layer][found.codes[:, layer]]
        left = np.square(vectors - rebuilt).sum() / np.square(vectors).sum()
        assert found.error[layer] == pytest.approx(left, rel=1e-4, abs=1e-9)
    assert found.error == sorted(found.error, reverse=True)
    assert found.codes.shape == (200, 3)
    assert found.codes.min() >= 0
    assert found.codes.max() < min(codebook, 200)
    assert np.array_equal(vectors, before)  # the caller's vectors stay as they were


def test_the_seed_decides_and_more_layers_extend_the_codes() -> None:
    vectors = np.random.default_rng(2).normal(size=(300, 8)).astype(np.float32)

    def codes(seed: int, layers: int = 2) -> np.ndarray:
        return residual_kmeans(vectors, TokenizeConfig(layers=layers, codebook=16, seed=seed), Silent()).codes

    assert np.array_equal(codes(0), codes(0))
    assert np.array_equal(codes(0), codes(0, layers=3)[:, :2])
    assert not same_partition(codes(0)[:, 0], codes(1)[:, 0])


def test_zero_vectors_cluster_without_a_fault() -> None:
    vectors = np.zeros((50, 4), np.float32)
    vectors[:10] = np.random.default_rng(3).normal(size=(10, 4))
    found = residual_kmeans(vectors, TokenizeConfig(layers=3, codebook=8), Silent())
    assert len(np.unique(found.codes[10:], axis=0)) == 1
    assert residual_kmeans(vectors[10:], TokenizeConfig(layers=2, codebook=8), Silent()).error == [0, 0]


def test_rank_counts_items_with_equal_codes_in_item_order() -> None:
    codes = np.array([[1, 2], [0, 5], [1, 2], [2, 1], [1, 2], [0, 5]])
    group, rank = group_equal(codes)
    assert rank.tolist() == [0, 0, 1, 0, 2, 1]
    assert same_partition(group, np.array([0, 1, 0, 2, 0, 1]))


@settings(deadline=None, max_examples=50)
@given(arrays(np.int64, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.integers(0, 3)))
def test_codes_and_rank_tell_all_items_apart(codes: np.ndarray) -> None:
    group, rank = group_equal(codes)
    assert len(np.unique(np.column_stack([codes, rank]), axis=0)) == len(codes)
    assert rank.tolist() == [sum(np.array_equal(codes[j], codes[i]) for j in range(i)) for i in range(len(codes))]
    assert same_partition(group, np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1))
