"""Latent semantic analysis: TF-IDF and a truncated SVD (Deerwester et al., 1990). No download, seconds on a CPU."""

from __future__ import annotations

import numpy as np

from pipelines.errors import UserError
from pipelines.progress import Progress

COMMON = 1000  # catalogues of at least so many texts drop words and word pairs that occur in one text only


def encode(texts: list[str], dimensions: int, seed: int, progress: Progress) -> np.ndarray:
    """LSA embeddings [N, D] in float32; a text none of whose words are used gets the zero vector.

    Args:
        texts: [N] texts, none of them empty.
        dimensions: D, lowered (and said) to what the number of texts and of distinct words and word pairs allows.
        seed: of the randomised SVD.

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
        weights = vectorizer.fit_transform(texts)  # [N, words]
    except ValueError:  # scikit-learn: "empty vocabulary" or "no terms remain"
        raise UserError(
            f"The {len(texts):,} item texts hold no words that lsa can use (none at all, or none that two texts share). "
            "Give text columns with `maskgr import --text-columns`, or another --encoder."
        ) from None
    width = min(dimensions, *weights.shape)
    if width < dimensions:
        progress.say(
            f"lsa: {width} dimensions instead of {dimensions}; {weights.shape[0]:,} texts of {weights.shape[1]:,} terms allow no more."
        )
    with threadpool_limits(
        1, user_api="blas"
    ):  # its many small products run slower on several threads, and round differently
        return (
            TruncatedSVD(width, n_iter=5, random_state=seed)
            .fit_transform(weights)
            .astype(np.float32, copy=False)
        )
