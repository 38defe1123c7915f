"""Product quantisation on clusters of columns worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.pq import columns, quantize
from tests.tokenize.test_quantization import same_partition


def product(items: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors whose first two columns are near one of two points, and the last two too, independently; and
    which.
    """
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 2, (2, items))
    points = np.array([[5, 0], [-5, 0]])
    return (
        np.hstack([points[left], points[right]]).astype(np.float32)
        + rng.normal(0, 0.1, (items, 4)).astype(np.float32),
        left,
        right,
    )


def test_each_digit_tells_its_own_columns_apart() -> None:
    vectors, left, right = product()
    found = quantize(vectors, TokenizeConfig(2, 2, "pq"), Silent())
    assert same_partition(found.codes[:, 0], left)
    assert same_partition(found.codes[:, 1], right)
    assert found.relative_error == pytest.approx(
        [0.5, 0.0], abs=0.01
    )  # each half holds half of the sum of squares
    other = vectors.copy()
    other[:, 2:] = 0
    assert np.array_equal(
        quantize(other, TokenizeConfig(2, 2, "pq"), Silent()).codes[:, 0], found.codes[:, 0]
    )


def test_digits_need_not_divide_the_columns_but_not_outnumber_them() -> None:
    assert [part.tolist() for part in columns(7, TokenizeConfig(3, 2, "pq"))] == [[0, 1, 2], [3, 4], [5, 6]]
    with pytest.raises(
        UserError,
        match="--method opq with --sids 5 needs .* at least 5 dimensions, and these have 4. Use --sids 4",
    ):
        columns(4, TokenizeConfig(5, 2, "opq"))
