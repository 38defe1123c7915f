"""What every method makes of the vectors, the k-means in digits that most of them rest on, and the digit that tells equals apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig


@dataclass(frozen=True, eq=False)
class Quantization:
    """N vectors as m digits each.

    Attributes:
        codes: int64 [N, m], from 0 to V − 1.
        error: the share of the vectors' energy (sum of squares) that is left when digits 0…h are known, m values;
            None where the digits say nothing of the vectors.
        centroids: float32 [≤ V, D] a digit; a vector is near the sum of those of its codes. None where it is no such sum.
        last: int64 [N], a last digit with which all items differ; None: the number of the item among its equals.
    """

    codes: np.ndarray
    error: list[float] | None = None
    centroids: list[np.ndarray] | None = None
    last: np.ndarray | None = None


def kmeans_by_digit(
    vectors: np.ndarray,
    columns: Sequence[np.ndarray | slice],
    config: TokenizeConfig,
    progress: Progress,
    name: str,
) -> Quantization:
    """For one digit after another, cluster some columns of what the digits before it leave of the vectors.

    With all columns for every digit this is residual k-means, with other columns for each it is product quantisation.
    Runs on all GPUs that faiss sees, else on the CPU. The same seed gives the same codes for the same number of
    threads, and more digits extend the codes of fewer. Centroids are learnt from at most 256 vectors per code. With
    `unit_residuals` directions are clustered: what a digit is given is scaled to unit length, its centroids back.

    Args:
        vectors: float32 [N, D], finite.
        columns: into D, for each of the m digits.
        name: what the person is told this is.
    """
    residuals = np.array(vectors, dtype=np.float32, order="C")  # a copy: reduced in place
    total = max(energy(residuals), np.finfo(np.float64).tiny)
    codes, centroids, error = [], [], []
    seeds = np.random.SeedSequence(config.seed).generate_state(len(columns)) >> 1  # faiss takes 31 bits
    with progress.task(name, total=len(columns), unit="digits") as task:
        for digit, (part, seed) in enumerate(zip(columns, seeds, strict=True)):
            shown = np.ascontiguousarray(residuals[:, part])
            length: np.ndarray | float = 1.0
            if config.unit_residuals:
                length = np.maximum(np.linalg.norm(shown, axis=1, keepdims=True), np.finfo(np.float32).tiny)
                shown = shown / length
            kmeans = faiss.Kmeans(
                shown.shape[1],
                min(config.codebook, len(shown)),
                niter=config.iterations,
                seed=int(seed),
                min_points_per_centroid=1,  # 39 by default, below which faiss warns on standard error
                gpu=faiss.get_num_gpus(),
            )
            kmeans.train(shown)
            codes.append(kmeans.assign(shown)[1])
            centroids.append(np.zeros((kmeans.k, residuals.shape[1]), np.float32))
            centroids[-1][:, part] = kmeans.centroids
            residuals[:, part] -= length * kmeans.centroids[codes[-1]]
            error.append(energy(residuals) / total)
            task.update(digit + 1, f"{error[-1]:.1%} of the energy left")
    return Quantization(np.stack(codes, axis=1), error, None if config.unit_residuals else centroids)


def group_equal(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group items with equal codes.

    Args:
        codes: integers [N, m].

    Returns:
        group: the number of each item's group, int64 [N].
        rank: each item's place in its group in item order, from 0, int64 [N]: its deduplication digit.
    """
    group = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(group)
    order = np.argsort(group, kind="stable")
    rank = np.empty_like(group)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return group, rank


def energy(vectors: np.ndarray) -> float:
    """The sum of squares, in float64."""
    return float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64))
