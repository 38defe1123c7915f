"""Codebooks as artifacts: the codes they give, and what is read back."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.progress import Silent
from pipelines.tokenize import kmeans, opq, pq, rqvae
from pipelines.tokenize.codebooks import Codebooks
from pipelines.tokenize.config import TokenizeConfig

METHODS = {
    "kmeans": (kmeans, TokenizeConfig(3, 8)),
    "unit": (kmeans, TokenizeConfig(3, 8, unit_residuals=True)),
    "pq": (pq, TokenizeConfig(4, 8, "pq")),
    "opq": (opq, TokenizeConfig(4, 8, "opq", iterations=3)),
    "rqvae": (rqvae, TokenizeConfig(3, 8, "rqvae", steps=60)),
}
VECTORS = np.random.default_rng(0).normal(1, 1, (300, 9)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_stored_codebooks_give_the_codes_of_the_fit(method: str, tmp_path: Path) -> None:
    module, config = METHODS[method]
    result = module.quantize(VECTORS, config, Silent())
    path = artifacts.write(tmp_path / "s.codebooks.parquet", "codebooks", result.codebooks.table(), config={})
    books = Codebooks.read(path, bool(config.unit_residuals))
    codes = books.quantize(VECTORS)
    assert (codes == result.codes).all(1).mean() > 0.99  # a distance may round to another nearest code
    np.testing.assert_array_equal(books.quantize(VECTORS[7:8]), codes[7:8])
    assert next(books.paths(VECTORS[7])) == tuple(codes[7])


def test_paths_change_the_last_digit_first_and_reach_all_codes() -> None:
    centroids = [np.array([[0.0], [10.0]], np.float32), np.array([[0.0], [1.0], [3.0]], np.float32)]
    books = Codebooks(centroids)
    assert list(books.paths(np.array([10.8], np.float32))) == [(1, 1), (1, 0), (1, 2), (0, 2), (0, 1), (0, 0)]
    assert len(list(islice(books.paths(np.array([0.0], np.float32)), 99))) == 6


def test_directions_are_compared_with_unit_residuals() -> None:
    """Code 1 has the direction of the vector; code 0 is nearer to its end."""
    centroids = [np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)]
    vector = np.array([[0.2, 0.1]], np.float32)
    assert Codebooks(centroids, unit_residuals=True).quantize(vector).tolist() == [[1]]
    long = Codebooks([np.array([[0.0, 1.0], [9.0, 0.0]], np.float32)])
    assert long.quantize(vector).tolist() == [[0]]


def test_layers_have_relu_between_them() -> None:
    first = np.array([[1, 0, -1], [0, 1, 0]], np.float32)  # x − 1, y
    second = np.array([[1, 1, 0.5]], np.float32)
    books = Codebooks([np.zeros((1, 1), np.float32)], [first, second])
    np.testing.assert_allclose(books.encode(np.array([[3, 4], [0, -2]], np.float32)), [[6.5], [0.5]])


@pytest.mark.parametrize("change", ["width", "gap"])
def test_matrices_that_do_not_fit_are_refused(change: str, tmp_path: Path) -> None:
    table = Codebooks([np.zeros((2, 3), np.float32)], [np.zeros((4, 6), np.float32)]).table()
    if change == "gap":
        fitting = Codebooks([np.zeros((2, 3), np.float32)]).table()
        table = fitting.set_column(2, "code", pa.array([0, 2], pa.int32()))
    path = artifacts.write(tmp_path / "s.codebooks.parquet", "codebooks", table, config={})
    with pytest.raises(UserError, match="s.codebooks.parquet holds no codebooks .*maskgr tokenize --force"):
        Codebooks.read(path, False)
