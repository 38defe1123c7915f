"""The exhaustive scorer compared with plain Python, and beam search compared with the exhaustive scorer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.decode import beam
from pipelines.decode.beam import beam_search, random_order
from pipelines.decode.build_index import build_index
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.exhaustive import score_every_item
from pipelines.decode.index import PartialIndex
from tests.decode.models import TableModel, catalogue
from tests.decode.paths import paths


@pytest.mark.parametrize("unmask", ORDERS)
@pytest.mark.parametrize(("digits", "codes"), [(1, 4), (3, 3), (4, 2)])
def test_every_item_has_the_score_of_its_path(unmask: str, digits: int, codes: int) -> None:
    model, sids = TableModel(2, digits, codes), catalogue(7, digits, codes)
    users, index = torch.arange(2), PartialIndex(sids, codes)
    for T in range(1, digits + 1):
        decoding = Decoding(unmask=unmask, nfe=T, seed=5)
        result = score_every_item(model, users, index, decoding)
        order = random_order(users, digits, 5).tolist() if unmask == "random" else [None, None]
        for user in range(2):

            def one(partial: tuple[int, ...], user: int = user) -> np.ndarray:
                return model(torch.tensor(partial).expand(2, 1, -1))[user, 0].numpy()

            truth = paths(one, unmask, decoding.unmask_schedule(digits), order[user], digits, codes)
            np.testing.assert_allclose(result[user], [truth[tuple(sid)] for sid in sids.tolist()], atol=1e-5)


def test_an_item_has_many_paths_where_digits_compete() -> None:
    model, sids = TableModel(1, 2, 3), catalogue(4, 2, 3)
    with pytest.raises(ValueError, match="many paths"):
        score_every_item(model, torch.arange(1), PartialIndex(sids, 3), Decoding(unmask="confidence"))


@settings(max_examples=150, deadline=None)
@given(
    digits=st.integers(1, 7),
    codes=st.sampled_from([2, 3, 5, 16, 64, 256]),
    items=st.integers(1, 40),
    spare=st.integers(0, 30),
    unmask=st.sampled_from(ORDERS),
    T=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_a_beam_as_wide_as_the_catalogue_is_exact(
    digits: int, codes: int, items: int, spare: int, unmask: str, T: int, seed: int
) -> None:
    """Every order, every T, catalogues whose items share most digits, and more beams than items."""
    sids = catalogue(items, digits, codes, seed)
    decoding = Decoding(unmask=unmask, nfe=min(T, digits), beams=len(sids) + spare, seed=seed)
    model, users = TableModel(3, digits, codes, seed), torch.arange(3)
    index = build_index(sids, codes, decoding.reachable(digits))
    result = beam_search(model, users, index, decoding)
    assert model.evaluations == min(T, digits)
    scores, items_ = score_every_item(model, users, index, decoding).sort(dim=1, descending=True)
    assert torch.equal(result.items[:, : len(sids), 0], items_)
    torch.testing.assert_close(result.scores[:, : len(sids)], scores, atol=1e-4, rtol=1e-4)
    assert (result.items[:, len(sids) :] == -1).all()
    assert result.scores[:, len(sids) :].isneginf().all()


def test_one_evaluation_scores_a_large_catalogue_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    sids = catalogue(500, 4, 16)
    model, users, index, decoding = (
        TableModel(3, 4, 16),
        torch.arange(3),
        PartialIndex(sids, 16),
        Decoding(nfe=1, beams=20),
    )
    whole = beam_search(model, users, index, decoding)
    monkeypatch.setattr(beam, "CELLS", 3 * 70)
    blocks = beam_search(model, users, index, decoding)
    assert torch.equal(blocks.items, whole.items)
    assert torch.equal(blocks.scores, whole.scores)
    assert torch.equal(
        whole.items.squeeze(2), score_every_item(model, users, index, decoding).topk(20).indices
    )
