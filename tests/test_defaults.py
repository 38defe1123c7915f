"""What a command builds for itself, and when."""

from __future__ import annotations

import pytest

from pipelines.defaults import ensure_sids, named_sids
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Workspace
from tests.conftest import ListProgress

SMALL = TokenizeConfig(num_levels=2, codebook=16)


def test_what_is_missing_is_made_and_said(toy: Workspace, progress: ListProgress) -> None:
    dataset = toy.require_dataset()
    assert ensure_sids(dataset, SMALL, None, progress) == "lsa-2x16"
    said = " ".join(progress.messages)
    assert "No embeddings of toy yet: making lsa ones" in said
    assert "Semantic IDs lsa-2x16 of toy must be made: lsa-2x16.parquet does not exist" in said
    quiet = ListProgress()
    assert ensure_sids(dataset, SMALL, None, quiet) == "lsa-2x16"
    assert quiet.messages == []


def test_what_changed_is_made_again_and_said(toy: Workspace, progress: ListProgress) -> None:
    dataset = toy.require_dataset()
    ensure_sids(dataset, SMALL, None, progress)
    before = dataset.sids("lsa-2x16").read_bytes()
    build_embeddings(dataset, EmbedConfig(dimensions=5), progress, force=True)
    ensure_sids(dataset, SMALL, None, progress)
    assert any("must be made: its embeddings changed" in message for message in progress.messages)
    assert dataset.sids("lsa-2x16").read_bytes() != before


def test_a_named_embedding_must_exist(toy: Workspace, progress: ListProgress) -> None:
    with pytest.raises(UserError, match="nosuch"):
        ensure_sids(toy.require_dataset(), SMALL, "nosuch", progress)


def test_sids_by_name_are_used_as_they_are(toy: Workspace, progress: ListProgress) -> None:
    dataset = toy.require_dataset()
    with pytest.raises(
        UserError, match="No semantic IDs 'mine' in .*sids .it holds none.*maskgr tokenize --name mine"
    ):
        named_sids(dataset, "mine", progress)
    made = dataset.sids(ensure_sids(dataset, SMALL, None, progress))
    mine = made.rename(dataset.sids("mine"))
    quiet = ListProgress()
    assert named_sids(dataset, "mine", quiet) == "mine"
    assert quiet.messages == []
    before = mine.read_bytes()
    build_embeddings(dataset, EmbedConfig(dimensions=5), progress, force=True)
    named_sids(dataset, "mine", quiet)
    assert "Semantic IDs mine of toy are used as they are, though its embeddings changed" in quiet.messages[0]
    assert mine.read_bytes() == before
    with pytest.raises(UserError, match="No semantic IDs 'other' in .*it holds mine"):
        named_sids(dataset, "other", progress)
