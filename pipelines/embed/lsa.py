"""Latent semantic analysis: TF-IDF and a truncated SVD (Deerwester et al., 1990).

It downloads nothing and takes seconds on a CPU.
"""

from __future__ import annotations

import numpy as np

from pipelines.errors import UserError
from pipelines.progress import Progress

COMMON = 1000  # with at least this many texts, words and word pairs that occur in only one text are dropped


def encode(texts: list[str], dimensions: int, seed: int, progress: Progress) -> np.ndarray:
    """Compute LSA embeddings, float32 [N, E]. A text without any word that is used gets the zero vector.

    Args:
        texts: N texts, none of them empty.
        dimensions: E. It is lowered, with a report, to the number of texts or of distinct words and word
            pairs.
        seed: seed of the randomized SVD.

    Raises:
        UserError: the texts hold no word, or no word that two texts share.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    vectorizer = TfidfVectorizer(
        sublinear_tf=True,
        ngram_range=(1, 2),
        min_df=2 if len(texts) >= COMMON else 1,
        token_pattern=r"(?u)\b\w+\b",
        strip_accents="unicode",
        dtype=np.float32,
    )
    try:
        weights = vectorizer.fit_transform(texts)  # [N, words and word pairs]
    except ValueError:  # scikit-learn: "empty vocabulary" or "no terms remain"
        raise UserError(
            f"The {len(texts):,} item texts hold no words that lsa can use (none at all, or none that two "
            "texts share). "
            "Give text columns with `maskgr import --text-columns`, or another --encoder."
        ) from None
    width = min(dimensions, *weights.shape)
    if width < dimensions:
        progress.say(
            f"lsa: {width} dimensions instead of {dimensions}; "
            f"{weights.shape[0]:,} texts of {weights.shape[1]:,} terms allow no more."
        )
    # With several threads, the many small matrix products are slower and round differently.
    with threadpool_limits(1, user_api="blas"):
        vectors: np.ndarray = TruncatedSVD(width, n_iter=5, random_state=seed).fit_transform(weights)
        return vectors.astype(np.float32, copy=False)
