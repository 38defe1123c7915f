"""Optimised product quantisation: the rotation, and what it is good for."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.tokenize import pq
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.opq import learn_rotation, quantize


def hidden_product(width: int = 8) -> np.ndarray:
    """Columns that vary less and less in a product of clusters, rotated so that no columns are clustered:
    float32 [600, 8].
    """
    rng = np.random.default_rng(3)
    halves = [rng.normal(size=(8, width // 2))[rng.integers(0, 8, 600)] for _ in range(2)]
    turn = np.linalg.qr(np.eye(width) + 0.3 * rng.normal(size=(width, width)))[0]
    return ((np.hstack(halves) + 0.02 * rng.normal(size=(600, width))) @ turn).astype(np.float32)


def test_the_rotation_is_one_and_finds_what_columns_hide() -> None:
    vectors, config = hidden_product(), TokenizeConfig(2, 8, "opq")
    rotation = learn_rotation(vectors, config)
    assert rotation @ rotation.T == pytest.approx(np.eye(8), abs=1e-5)
    plain = pq.quantize(vectors, TokenizeConfig(2, 8, "pq"), Silent()).relative_error[-1]
    assert quantize(vectors, config, Silent()).relative_error[-1] < 0.6 * plain


def test_the_seed_decides() -> None:
    vectors = hidden_product()

    def codes(seed: int) -> np.ndarray:
        return quantize(vectors, TokenizeConfig(2, 8, "opq", seed=seed, iterations=3), Silent()).codes

    assert np.array_equal(codes(0), codes(0))
    assert not np.array_equal(codes(0), codes(1))
    rotations = [
        learn_rotation(vectors, TokenizeConfig(2, 8, "opq", seed=seed, iterations=3)) for seed in (0, 1)
    ]
    assert not np.allclose(*rotations)


def test_digits_may_be_many_and_need_not_divide_the_columns() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 18)).astype(np.float32)
    found = quantize(vectors, TokenizeConfig(16, 32, "opq", iterations=2), Silent())
    assert [len(np.unique(column)) for column in found.codes.T] == [
        32
    ] * 16  # none of them is about columns of zeros
    assert found.relative_error[-1] < 0.02
    with pytest.raises(UserError, match="--method opq with --sids 19"):
        quantize(vectors, TokenizeConfig(19, 32, "opq"), Silent())


def test_items_may_be_fewer_than_dimensions() -> None:
    """faiss would abort the process."""
    vectors = np.random.default_rng(0).normal(size=(10, 24)).astype(np.float32)
    rotation = learn_rotation(vectors, TokenizeConfig(8, 4, "opq", iterations=2))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(24), atol=1e-4)
