"""Result of all methods, clustering digit by digit that most methods use, and the deduplication digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from pipelines.progress import Progress
from pipelines.tokenize.codebooks import Codebooks
from pipelines.tokenize.config import TokenizeConfig

TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True, eq=False)
class Quantization:
    """N vectors quantized to m digits each.

    Attributes:
        codes: int64 [N, m], from 0 to V − 1.
        relative_error: relative quantization error after digits 0 … h, m values: the sum of squares of the
            residuals as a share of that of the vectors. None if the digits do not depend on the vectors.
        centroids: float32 [≤ V, D] for each digit; a vector is approximately the sum of the centroids of its
            codes. None if it is no such sum.
        codebooks: what gives new vectors their codes; None if the digits do not depend on the vectors.
        last: last digit, with which all items differ, int64 [N]; None for the rank of the item in its group
            of equal codes.
    """

    codes: np.ndarray
    relative_error: list[float] | None = None
    centroids: list[np.ndarray] | None = None
    codebooks: Codebooks | None = None
    last: np.ndarray | None = None


def kmeans_by_digit(
    vectors: np.ndarray,
    columns: Sequence[np.ndarray | slice],
    config: TokenizeConfig,
    progress: Progress,
    name: str,
) -> Quantization:
    """Cluster columns of the residuals, for one digit after another.

    With all columns for every digit this is residual k-means; with other columns for each digit it is product
    quantization. The clustering runs on all GPUs that faiss finds, else on the CPU. The same seed gives the
    same codes for the same number of threads, and more digits extend the codes of fewer digits. Centroids are
    learned from at most 256 vectors per code. With `unit_residuals`, directions are clustered: the residuals
    are scaled to unit length, and the centroids are scaled back.

    Args:
        vectors: float32 [N, D], finite.
        columns: columns of each of the m digits.
        name: name of the method in the progress report.
    """
    residuals = np.array(vectors, dtype=np.float32, order="C")  # [N, D], a copy that is reduced in place
    total = max(sum_of_squares(residuals), np.finfo(np.float64).tiny)
    codes: list[np.ndarray] = []
    centroids: list[np.ndarray] = []
    relative_error: list[float] = []
    seeds = np.random.SeedSequence(config.seed).generate_state(len(columns)) >> 1  # faiss takes 31 bits
    with progress.task(name, total=len(columns), unit="digits") as task:
        for digit, (part, seed) in enumerate(zip(columns, seeds, strict=True)):
            points = np.ascontiguousarray(residuals[:, part])  # [N, d]
            length: np.ndarray | float = 1.0
            if config.unit_residuals:
                length = np.maximum(np.linalg.norm(points, axis=1, keepdims=True), TINY)  # [N, 1]
                points = points / length
            code, centers = _cluster(points, config, int(seed))
            codes.append(code)
            centroids.append(np.zeros((len(centers), residuals.shape[1]), np.float32))
            centroids[-1][:, part] = centers
            residuals[:, part] -= length * centers[code]
            relative_error.append(sum_of_squares(residuals) / total)
            task.update(digit + 1, f"relative quantization error {relative_error[-1]:.1%}")
    codebooks = Codebooks(centroids, unit_residuals=bool(config.unit_residuals))
    sums = None if config.unit_residuals else centroids
    return Quantization(np.stack(codes, axis=1), relative_error, sums, codebooks)


def _cluster(points: np.ndarray, config: TokenizeConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster points [N, d] with k-means.

    Returns:
        code of each point, int64 [N]; centroids, float32 [≤ V, d].
    """
    kmeans = faiss.Kmeans(
        points.shape[1],
        min(config.codebook, len(points)),
        niter=config.iterations,
        seed=seed,
        min_points_per_centroid=1,  # 39 by default, below which faiss warns on standard error
        gpu=faiss.get_num_gpus(),
    )
    kmeans.train(points)
    assert kmeans.centroids is not None  # after training
    return kmeans.assign(points)[1], kmeans.centroids


def assign(books: Codebooks, vectors: np.ndarray) -> np.ndarray:
    """Return the codes of vectors, as `Codebooks.quantize` does apart from rounding, and faster.

    Args:
        vectors: float32 [n, D].

    Returns:
        int64 [n, m].
    """
    residuals = books.encode(vectors)  # [n, W]
    codes = np.empty((len(vectors), len(books.centroids)), np.int64)
    for digit, centers in enumerate(books.centroids):
        index: faiss.Index = faiss.IndexFlatL2(centers.shape[1])
        if faiss.get_num_gpus():
            index = faiss.index_cpu_to_all_gpus(index)
        index.add(centers)
        points = books.directions(residuals)
        codes[:, digit] = index.search(np.ascontiguousarray(points), 1)[1][:, 0]
        residuals = books.residuals(residuals, digit, codes[:, digit])
    return codes


def group_equal(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group items with equal codes.

    Args:
        codes: integers [N, m].

    Returns:
        number of each item's group, int64 [N]; rank of each item in its group in item order, from 0, int64
        [N], which is its deduplication digit.
    """
    group = np.zeros(len(codes), np.int64)  # [N]
    for column in codes.T:
        low, values = column.min(initial=0), int(column.max(initial=0)) - int(column.min(initial=0)) + 1
        if (int(group.max(initial=0)) + 1) * values > np.iinfo(np.int64).max:
            group = np.unique(group, return_inverse=True)[1]
        group = group * values + (column - low)
    group = np.unique(group, return_inverse=True)[1]  # [N], in the order of the codes
    sizes = np.bincount(group)  # [groups]
    order = np.argsort(group, kind="stable")  # [N]
    rank = np.empty_like(group)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return group, rank


def sum_of_squares(vectors: np.ndarray) -> float:
    """Return the sum of squares of all values, float32 [N, D], computed in float64."""
    return float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64))


def require_option(name: str, value: int | None) -> int:
    """Return the value of an option that the method reads, which `TokenizeConfig` has set.

    Raises:
        ValueError: the value is None.
    """
    if value is None:
        raise ValueError(f"the configuration is not one of this method: {name} is None")
    return value
