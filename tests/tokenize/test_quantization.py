"""What methods that sum centroids have in common, and the deduplication digit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.progress import Silent
from pipelines.tokenize import kmeans, opq, pq
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import group_equal

SUMS = {"kmeans": kmeans, "pq": pq, "opq": opq}


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a[:, None] == a, b[:, None] == b))


@pytest.mark.parametrize("codebook", [4, 13, 300])  # 300: more codes than vectors
@pytest.mark.parametrize("method", SUMS)
def test_centroids_sum_to_the_vectors_up_to_the_reported_error(
    method: str, codebook: int, capfd: pytest.CaptureFixture[str]
) -> None:
    vectors = np.random.default_rng(1).normal(1, 1, (200, 9)).astype(np.float32)
    before = vectors.copy()
    found = SUMS[method].quantize(
        vectors, TokenizeConfig(num_levels=3, codebook=codebook, method=method, iterations=5), Silent()
    )
    rebuilt = np.zeros_like(vectors)
    for digit in range(3):
        rebuilt += found.centroids[digit][found.codes[:, digit]]
        left = np.square(vectors - rebuilt).sum() / np.square(vectors).sum()
        assert found.relative_error[digit] == pytest.approx(left, rel=1e-4, abs=1e-6)
    assert found.relative_error == sorted(found.relative_error, reverse=True)
    assert found.codes.shape == (200, 3)
    assert found.codes.min() >= 0
    assert found.codes.max() < min(codebook, 200)
    assert np.array_equal(vectors, before)  # the caller's vectors stay as they were
    assert capfd.readouterr() == ("", "")  # faiss warns where vectors are few, if it is let


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
    assert rank.tolist() == [
        sum(np.array_equal(codes[j], codes[i]) for j in range(i)) for i in range(len(codes))
    ]
    assert same_partition(group, np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1))
