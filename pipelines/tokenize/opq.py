"""Optimized product quantization: product quantization after a learned rotation.

Source: Ge, He, Ke, Sun, TPAMI 2014. RPG (arXiv 2506.05781) makes its semantic IDs by this method.
"""

from __future__ import annotations

import math
from dataclasses import replace

import faiss
import numpy as np

from pipelines.progress import Progress
from pipelines.tokenize import pq
from pipelines.tokenize.codebooks import Codebooks
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization, require_option


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Quantize vectors by product quantization of their rotations.

    If m does not divide D, the shorter groups of columns of product quantization are extended by a column of
    zeros each.

    Args:
        vectors: float32 [N, D], finite.

    Raises:
        UserError: m exceeds D.
    """
    groups = pq.columns(vectors.shape[1], config)
    width = len(groups[0])  # of the longest
    place = np.concatenate(
        [digit * width + np.arange(len(group)) for digit, group in enumerate(groups)]
    )  # [D]
    padded = np.zeros((len(vectors), len(groups) * width), np.float32)  # [N, m · width]
    padded[:, place] = vectors
    with progress.task(f"Learning a rotation of {padded.shape[1]} dimensions"):
        rotation = learn_rotation(padded, config)  # [m · width, m · width]
    result = pq.quantize(padded @ rotation.T, config, progress)
    if result.centroids is None:
        return result
    layer = np.column_stack([rotation[:, place], np.zeros(len(rotation), np.float32)])  # [m · width, D + 1]
    return replace(
        result,
        centroids=[(rotated @ rotation)[:, place] for rotated in result.centroids],
        codebooks=Codebooks(result.centroids, [layer]),
    )


def learn_rotation(vectors: np.ndarray, config: TokenizeConfig) -> np.ndarray:
    """Learn a rotation after which the relative quantization error is smaller.

    Each round consists of one Lloyd iteration and the best rotation towards the centroids. The rounds start
    at the identity: embeddings whose first columns vary most, as those of LSA, then have a far smaller
    relative quantization error than from faiss's random start (Beauty, 32 digits, 10 rounds: 3.2 % instead of
    5.3 %; pq has 3.7 %). For the rotation, V is rounded down to a power of two.

    Args:
        vectors: float32 [N, W], where m divides W.

    Returns:
        orthogonal matrix [W, W], to be multiplied with a vector.
    """
    width = vectors.shape[1]
    iterations = require_option("iterations", config.iterations)
    matrix = faiss.OPQMatrix(width, config.num_levels)
    matrix.niter, matrix.niter_pq, matrix.niter_pq_0 = iterations, 1, iterations
    bits = min(config.codebook, len(vectors)).bit_length() - 1
    matrix.pq = quantizer = faiss.ProductQuantizer(width, config.num_levels, bits)
    quantizer.cp.seed = config.seed
    quantizer.cp.min_points_per_centroid = 1  # 39 by default, below which faiss warns on standard error
    faiss.copy_array_to_vector(np.eye(width, dtype=np.float32).ravel(), matrix.A)
    # faiss aborts the process with fewer vectors than dimensions. Repeated vectors have the same rotation.
    repeats = math.ceil(width / len(vectors))
    matrix.train(np.tile(vectors, (repeats, 1)))
    return faiss.vector_to_array(matrix.A).reshape(width, width)
