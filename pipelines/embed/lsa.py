"""Latent semantic analysis: TF-IDF and a truncated SVD (Deerwester et al., 1990).

It downloads nothing and takes seconds on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.embed.terms import DESCRIPTIONS, Terms
from pipelines.errors import UserError
from pipelines.progress import Progress

BLOCK = 1 << 16  # texts that are encoded at a time
COMMON = 1000  # with at least this many texts, words and word pairs that occur in only one text are dropped


@dataclass(frozen=True, eq=False)
class Encoder:
    """A fitted encoder, which gives new texts their embeddings.

    Attributes:
        kind: kind of the terms, see `Terms`.
        terms: T distinct terms, in the order in which they first occur in the texts of the fit. A text then
            has the same embedding to the last bit whether it was part of the fit or not.
        idf: inverse document frequency of each term, float32 [T].
        projection: of each term, float32 [T, E].
    """

    kind: str
    terms: Sequence[str]
    idf: np.ndarray
    projection: np.ndarray

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Compute the embeddings of texts, float32 [n, E]. A text without any known term has the zero vector.

        Args:
            texts: n ≥ 1 texts.
        """
        vectors: np.ndarray = self._vectorizer.transform(texts) @ self.projection
        return vectors.astype(np.float32, copy=False)

    @cached_property
    def _vectorizer(self) -> Any:
        vectorizer = vectorizer_of(
            Terms(self.kind), vocabulary={term: t for t, term in enumerate(self.terms)}
        )
        vectorizer.idf_ = self.idf
        return vectorizer

    def table(self) -> pa.Table:
        """Return the encoder as an artifact of kind "encoder", without its configuration."""
        return pa.table(
            {
                "term": pa.array(self.terms, pa.string()),
                "idf": self.idf,
                "projection": artifacts.fixed_size_list(self.projection),
            }
        )

    @staticmethod
    def read(path: Path) -> Encoder:
        """Read an encoder.

        Raises:
            UserError: the file is missing or unreadable.
        """
        table = artifacts.read(path, "encoder", hint="Run `maskgr embed --force`.")
        provenance = artifacts.provenance(path)
        kind = provenance["config"].get("terms") if provenance else None
        if kind not in DESCRIPTIONS:
            raise UserError(f"{path} does not say which terms it has. Run `maskgr embed --force`.")
        projection = artifacts.matrix(table, "projection", path)  # [T, E]
        return Encoder(kind, table["term"].to_pylist(), table["idf"].to_numpy(), projection)


def fit(texts: Sequence[str], dimensions: int, seed: int, progress: Progress) -> tuple[Encoder, np.ndarray]:
    """Fit an encoder to texts and report its terms.

    Args:
        texts: N texts, none of them empty.
        dimensions: E. It is lowered, with a report, to the number of texts or of distinct terms.
        seed: seed of the randomized SVD.

    Returns:
        the encoder; the embeddings of the texts, float32 [N, E]. A text without any term that is used has the
        zero vector.

    Raises:
        UserError: the texts hold no word, or no word that two texts share.
    """
    terms = Terms.of_texts(texts)
    vectorizer = vectorizer_of(terms, min_df=2 if len(texts) >= COMMON else 1)
    try:
        weights = vectorizer.fit_transform(texts)  # [N, T]
    except ValueError:  # scikit-learn: "empty vocabulary" or "no terms remain"
        raise UserError(
            f"The {len(texts):,} item texts hold no words that lsa can use (none at all, or none that two "
            "texts share). "
            "Give text columns with `maskgr import --text-columns`, or another --encoder."
        ) from None
    because = f", because {terms.reason}" if terms.reason else ""
    progress.say(
        f"lsa: {weights.shape[1]:,} terms ({DESCRIPTIONS[terms.kind]}{because}), "
        f"{weights.nnz / len(texts):.1f} per text on average."
    )
    width = min(dimensions, *weights.shape)
    if width < dimensions:
        progress.say(
            f"lsa: {width} dimensions instead of {dimensions}; "
            f"{weights.shape[0]:,} texts of {weights.shape[1]:,} terms allow no more."
        )
    vectors, axes = _decompose(weights, width, seed)  # [N, E], [E, T]
    found, first = np.unique(weights.indices, return_index=True)
    order = found[np.argsort(first)]  # [T], of first occurrence
    names = vectorizer.get_feature_names_out()[order].tolist()
    projection = np.ascontiguousarray(axes.T[order], np.float32)
    return Encoder(terms.kind, names, vectorizer.idf_[order].astype(np.float32), projection), vectors


def embed(
    texts: Sequence[str], dimensions: int, seed: int, largest: int, progress: Progress
) -> tuple[Encoder, np.ndarray]:
    """Fit an encoder to texts, or to a sample of them if they are many, and encode all of them.

    Args:
        largest: most texts that the encoder is fitted on.
        texts, dimensions, seed: see `fit`.

    Returns:
        see `fit`.

    Raises:
        UserError: see `fit`.
    """
    if len(texts) <= largest:
        return fit(texts, dimensions, seed, progress)
    chosen = np.sort(np.random.default_rng(seed).choice(len(texts), largest, replace=False))
    progress.say(f"lsa is fitted on {largest:,} of {len(texts):,} texts, drawn with seed {seed} (--sample).")
    encoder, _ = fit([texts[text] for text in chosen], dimensions, seed, progress)
    vectors = np.empty((len(texts), encoder.projection.shape[1]), np.float32)  # [N, E]
    with progress.task("Encoding", len(texts), "texts") as task:
        for start in range(0, len(texts), BLOCK):
            block = encoder.encode(texts[start : start + BLOCK])
            vectors[start : start + len(block)] = block
            task.advance(len(block))
    return encoder, vectors


def _decompose(weights: Any, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of TF-IDF weights [N, T], float32 [N, E], and the principal axes [E, T].

    Args:
        width: E.
        seed: seed of the randomized SVD.
    """
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    if weights.shape[1] == 1:  # scikit-learn refuses a single term
        return weights.toarray(), np.ones((1, 1), np.float32)
    svd = TruncatedSVD(width, n_iter=5, random_state=seed)
    # With several threads, the many small matrix products are slower and round differently. Equal texts have
    # no variance, by which scikit-learn divides.
    with threadpool_limits(1, user_api="blas"), np.errstate(divide="ignore", invalid="ignore"):
        vectors: np.ndarray = svd.fit_transform(weights)
    return vectors.astype(np.float32, copy=False), svd.components_


def vectorizer_of(terms: Terms, **options: Any) -> Any:
    """Return scikit-learn's vectorizer of TF-IDF weights of these terms."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **terms.vectorizer_options(), **options)
