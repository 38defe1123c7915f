"""Embeddings from interactions: information counted by hand, nearness, and the choice of the encoder."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from pipelines import artifacts
from pipelines.defaults import ensure_sids
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.embed.interactions import SMOOTHING, information
from pipelines.errors import UserError
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Dataset
from tests.conftest import ListProgress
from tests.embed.conftest import write_items, write_sequences
from tests.embed.test_lsa import read


def test_information_by_hand() -> None:
    counts = np.array([[0, 4, 1], [4, 0, 0], [1, 0, 0]], float)
    frequency = [5, 4, 1]
    smooth = sum(f**SMOOTHING for f in frequency)
    found = information(csr_matrix(counts)).toarray()
    for i, j in ((0, 1), (0, 2), (1, 0), (2, 0)):
        expected = math.log(counts[i, j] / frequency[i] / (frequency[j] ** SMOOTHING / smooth))
        assert found[i, j] == pytest.approx(max(expected, 0), rel=1e-5)
    assert found[1, 2] == found[2, 1] == 0


def test_items_of_the_same_users_are_nearest(dataset: Dataset, progress: ListProgress) -> None:
    """Users take items below 10, or items from 10 on. No text is read."""
    write_items(dataset, [""] * 20)
    rng = np.random.default_rng(0)
    write_sequences(dataset, [(rng.permutation(10)[:8] + 10 * (u % 2)).tolist() for u in range(60)])
    build_embeddings(dataset, EmbedConfig(encoder="interactions", dimensions=2), progress)
    values = read(dataset, "interactions")
    assert values.dtype == np.float32 and values.shape == (20, 2)
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, rtol=1e-5)
    near = values @ values.T
    assert near[:10, :10].min() > near[:10, 10:].max()
    assert set(artifacts.provenance(dataset.embeddings("interactions"))["inputs"]) == {"items", "sequences"}
    build_embeddings(dataset, EmbedConfig(encoder="interactions", dimensions=2), progress)
    assert "up to date" in progress.messages[-1]


def test_no_pair_of_items(dataset: Dataset, progress: ListProgress) -> None:
    write_items(dataset, [""] * 4)
    write_sequences(dataset, [[0, 0, 0, 1, 2], [3, 3, 1]])
    with pytest.raises(UserError, match="No two items occur near each other .*--method random"):
        build_embeddings(dataset, EmbedConfig(encoder="interactions"), progress)


def test_without_any_text_interactions_are_chosen_and_said(
    dataset: Dataset, progress: ListProgress, maskgr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    write_items(dataset, ["", " "] * 10)
    assert ensure_sids(dataset, TokenizeConfig(2, 8), None, progress) == "interactions-2x8"
    assert (
        "No item of toy has text: embeddings come from interactions (--encoder interactions)."
        in progress.messages
    )
    assert (
        "No embeddings of toy yet: making interactions ones (`maskgr embed` makes others)."
        in progress.messages
    )
    done = maskgr("embed", "--dimensions", 3)
    assert done.returncode == 0 and "No item of toy has text" in done.stderr
    assert read(dataset, "interactions").shape == (20, 3)
    asked = maskgr("embed", "--encoder", "lsa")
    assert asked.returncode == 2 and "or use --encoder interactions" in asked.stderr
