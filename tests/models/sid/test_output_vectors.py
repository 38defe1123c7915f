"""Products with output vectors by parts compared with products with a table, and the same recommendations of
models that keep no table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.data.splits import Split
from pipelines.decode import beam
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.recommend import Recommendations, recommend
from pipelines.models.sid import item_denoiser, item_softmax, new_items, output_vectors
from pipelines.models.sid.output_vectors import OutputVectors
from pipelines.models.sid_models import maskgr
from tests.conftest import ListProgress
from tests.decode.models import catalogue
from tests.models.sid.test_item_softmax import SIDS, H, N, V
from tests.models.sid.test_new_items import model as model_with_new_items

D = 8


@pytest.mark.parametrize("parts", ["digits", "own", "both"])
def test_products_are_those_of_the_sums(parts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_vectors, "PAIRS", 7)
    sids, generator = torch.as_tensor(catalogue(40, 4, 5)), torch.Generator().manual_seed(0)
    digits = torch.randn(4 * 5, D, generator=generator) if parts != "own" else None
    own = torch.randn(40, D, generator=generator) if parts != "digits" else None
    whole = torch.zeros(40, D)
    for item in range(40):
        if digits is not None:
            whole[item] += sum(digits[h * 5 + sids[item, h]] for h in range(4))
        if own is not None:
            whole[item] += own[item]
    states = torch.randn(3, D, generator=generator)
    vectors = OutputVectors(sids, digits, own)
    products = vectors.products(states)
    for items in (slice(None), slice(5, 17), slice(30, 99), torch.tensor([3, 9, 39]), torch.tensor([0])):
        torch.testing.assert_close(products(items), states @ whole[items].T)
    rows, items = torch.arange(60) % 3, torch.arange(60) * 7 % 40
    expected = (states[rows] * whole[items]).sum(1)
    torch.testing.assert_close(vectors.paired_products(states, rows, items), expected)


@pytest.mark.parametrize("nfe", [1, 2, H])
@pytest.mark.parametrize("guidance", [0.0, 0.5])
@pytest.mark.parametrize("item_embeddings", [True, False])
@pytest.mark.parametrize("items", [None, [1, 4, 7, 8, 9, 15, 22, 29]], ids=["all", "filter"])
def test_a_large_catalogue_is_recommended_from_like_a_small_one(
    nfe: int, guidance: float, item_embeddings: bool, items: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No table of vectors, blocks of a few items, the repeat bias, items that were not trained on, and seen
    items excluded.
    """
    settings = {"history_dropout": 0.1, "item_embeddings": True}
    histories = np.array([3, 7, 5, 2, 9, 4, 22, 22], np.int32)
    split = Split(histories, np.arange(5) * 2, np.arange(4, dtype=np.int32), np.ones((4, 1), np.int32))
    chosen = None if items is None else np.array(items)

    def search() -> Recommendations:
        model = model_with_new_items(**settings)
        if not item_embeddings:
            model.item_embedding, model.new_items = None, None
        decoding = Decoding(beams=6, nfe=nfe, guidance=guidance, exclude_seen=True)
        index = PartialIndex(SIDS, V, decoding.reachable(H), chosen)
        return recommend(model, split, index, decoding, ListProgress(), items=chosen)

    small = search()
    monkeypatch.setattr(maskgr, "TABLE", 0)
    for module, name, value in (
        *((beam, name, 4) for name in ("CELLS", "FEWEST")),
        *((item_softmax, "CELLS", N), (item_denoiser, "PAIRS", N)),
        (new_items, "CELLS", 1),
    ):
        monkeypatch.setattr(module, name, value)
    large = search()
    assert np.array_equal(large.items, small.items)
    np.testing.assert_allclose(large.scores, small.scores, rtol=1e-4, atol=1e-4)
