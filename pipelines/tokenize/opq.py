"""Optimised product quantisation: first a rotation that suits it (Ge, He, Ke, Sun, TPAMI 2014), as RPG has it (arXiv 2506.05781)."""

from __future__ import annotations

from dataclasses import replace

import faiss
import numpy as np

from pipelines.progress import Progress
from pipelines.tokenize import pq
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Product quantisation of the rotated vectors; `vectors` is [N, D].

    Where m does not divide D, the shorter ones of pq's runs of columns get a column of zeros each.

    Raises:
        UserError: more digits than columns.
    """
    runs = pq.columns(vectors.shape[1], config)
    width = len(runs[0])  # of the longest
    place = np.concatenate(
        [digit * width + np.arange(len(run)) for digit, run in enumerate(runs)]
    )  # of each column
    padded = np.zeros((len(vectors), len(runs) * width), np.float32)
    padded[:, place] = vectors
    with progress.task(f"Learning a rotation of {padded.shape[1]} dimensions"):
        rotation = learn_rotation(padded, config)
    found = pq.quantize(padded @ rotation.T, config, progress)
    return replace(found, centroids=[(rotated @ rotation)[:, place] for rotated in found.centroids])


def learn_rotation(vectors: np.ndarray, config: TokenizeConfig) -> np.ndarray:
    """An orthogonal matrix [R, R] whose product with a vector is easier to quantise; `vectors` is [N, R], m divides R.

    Rounds of one Lloyd iteration and the best rotation towards the centroids. They start at no rotation: embeddings
    whose first columns vary most, as those of LSA, are then quantised far better than from faiss's random start (Beauty, 32 digits,
    10 rounds: 3.2 % of the energy left instead of 5.3 %; pq leaves 3.7 %). For the rotation V is rounded down to a power of two.
    """
    R = vectors.shape[1]
    matrix = faiss.OPQMatrix(R, config.num_levels)
    matrix.niter, matrix.niter_pq, matrix.niter_pq_0 = config.iterations, 1, config.iterations
    bits = min(config.codebook, len(vectors)).bit_length() - 1
    matrix.pq = quantizer = faiss.ProductQuantizer(R, config.num_levels, bits)
    quantizer.cp.seed = config.seed
    quantizer.cp.min_points_per_centroid = 1  # 39 by default, below which faiss warns on standard error
    faiss.copy_array_to_vector(np.eye(R, dtype=np.float32).ravel(), matrix.A)
    matrix.train(np.ascontiguousarray(vectors))
    return faiss.vector_to_array(matrix.A).reshape(R, R)
