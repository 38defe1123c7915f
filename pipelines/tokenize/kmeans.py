"""Residual k-means, and the digit that tells items with equal codes apart."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig


@dataclass(frozen=True)
class Quantization:
    """Vectors as sums of centroids, one per layer.

    `codes` is int64 [N, m]; `centroids[h]` is float32 [≤ V, D]; `error[h]` is the share of the vectors' energy
    (sum of squares) that is left after layers 0…h.
    """

    codes: np.ndarray
    centroids: list[np.ndarray]
    error: list[float]


def residual_kmeans(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Cluster the vectors, then what the centroids leave of them, and so on, m times.

    Runs on all GPUs that faiss sees, else on the CPU. The same seed gives the same codes for the same number of
    threads, and more layers extend the codes of fewer. Centroids are learnt from at most 256 vectors per code.

    Args:
        vectors: float32 [N, D], finite.
    """
    residuals = np.array(vectors, dtype=np.float32, order="C")  # a copy: reduced in place
    energy = max(_energy(residuals), np.finfo(np.float64).tiny)
    codes, centroids, error = [], [], []
    seeds = np.random.SeedSequence(config.seed).generate_state(config.layers) >> 1  # faiss takes 31 bits
    with progress.task("Residual k-means", total=config.layers, unit="layers") as task:
        for layer, seed in enumerate(seeds):
            kmeans = faiss.Kmeans(
                residuals.shape[1],
                min(config.codebook, len(residuals)),
                niter=config.iterations,
                seed=int(seed),
                min_points_per_centroid=1,  # 39 by default, below which faiss warns on standard error
                gpu=faiss.get_num_gpus(),
            )
            kmeans.train(residuals)
            codes.append(kmeans.assign(residuals)[1])
            centroids.append(kmeans.centroids)
            residuals -= kmeans.centroids[codes[-1]]
            error.append(_energy(residuals) / energy)
            task.update(layer + 1, f"{error[-1]:.1%} of the energy left")
    return Quantization(np.stack(codes, axis=1), centroids, error)


def random_codes(items: int, config: TokenizeConfig) -> Quantization:
    """Codes drawn evenly and without a look at any vector, of which they keep nothing (the paper's random SIDs, section 4.5)."""
    codes = np.random.default_rng(config.seed).integers(0, config.codebook, (items, config.layers))
    return Quantization(codes, [], [1.0] * config.layers)


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


def _energy(vectors: np.ndarray) -> float:
    return float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64))
