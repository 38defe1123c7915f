"""Item embeddings without texts: co-occurrence in training interactions, factorized.

The vectors are the first axes of a truncated SVD of the positive pointwise mutual information of items (Levy
and Goldberg, NeurIPS 2014; context frequencies to the power of 0.75: Levy, Goldberg and Dagan, TACL 2015).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.errors import UserError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SMOOTHING = 0.75  # exponent of the frequencies of contexts; makes rare pairs count less


def information(counts: csr_matrix) -> csr_matrix:
    """Return the positive pointwise mutual information of pairs of items, float32 [N, N].

    Args:
        counts: co-occurrences, symmetric [N, N].
    """
    from scipy.sparse import coo_matrix

    frequency = np.asarray(counts.sum(axis=1)).reshape(-1)  # [N]
    smooth = frequency**SMOOTHING  # [N]
    context = smooth / max(smooth.sum(), 1.0)  # [N]
    pairs = counts.tocoo()
    values = np.log(pairs.data / (frequency[pairs.row] * context[pairs.col]))  # [pairs]
    positive = values > 0
    kept = (values[positive].astype(np.float32), (pairs.row[positive], pairs.col[positive]))
    return coo_matrix(kept, shape=counts.shape).tocsr()


def encode(counts: csr_matrix, dimensions: int, seed: int) -> np.ndarray:
    """Compute item embeddings, float32 [N, E]. An item without co-occurrences has the zero vector.

    Args:
        counts: co-occurrences, symmetric [N, N].
        dimensions: E; it is lowered to N.
        seed: seed of the randomized SVD.

    Raises:
        UserError: no two items co-occur more often than by chance.
    """
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    weights = information(counts)
    if not weights.nnz:
        raise UserError(
            "No two items occur near each other in the training interactions more often than by chance, so "
            "that they give no embeddings. Use another --encoder, or `maskgr tokenize --method random`."
        )
    svd = TruncatedSVD(min(dimensions, len(counts.indptr) - 1), n_iter=5, random_state=seed)
    with threadpool_limits(1, user_api="blas"), np.errstate(divide="ignore", invalid="ignore"):
        vectors: np.ndarray = svd.fit_transform(weights)
    return vectors.astype(np.float32, copy=False)
