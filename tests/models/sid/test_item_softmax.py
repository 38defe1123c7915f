"""Joint digits against sums over the catalogue written out, and what must hold of any distribution over items."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.candidates import CandidateIndex
from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Split
from pipelines.decode.beam import beam_search
from pipelines.decode.config import CONFIDENCE, ORDERS, Decoding
from pipelines.decode.exhaustive import score_every_item
from pipelines.decode.guidance import guided
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate import recommend as recommending
from pipelines.evaluate.recommend import Recommendations, recommend
from pipelines.models import loading
from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.repeat_bias import Held
from pipelines.models.sid import item_softmax as joint
from pipelines.models.sid.item_softmax import ItemSoftmax, item_softmax_loss, sampled_item_softmax_loss
from pipelines.models.sid_models.config import ATTENTION, MaskGRConfig
from pipelines.models.sid_models.maskgr import MaskGR
from tests.conftest import ListProgress
from tests.decode.models import catalogue
from tests.models.drawn import masked_items

N, H, V = 30, 3, 4
SIDS = catalogue(N, H, V)
SIZES = MaskGRConfig(
    layers=2,
    width=16,
    heads=2,
    mlp=32,
    dropout=0.0,
    max_items=6,
    whole_item=0.2,
    tokens="item",
    likelihood="item",
    item_embeddings=True,
)
HISTORIES = torch.tensor([[-1, -1, 3, 7], [5, 2, 9, 4]])


class TableStates:
    """States [B, K, 1, D] that depend on every revealed digit, from random tables."""

    def __init__(self, users: int, digits: int, codes: int, seed: int = 0) -> None:
        self.tables = torch.randn(users, digits, codes + 1, 8, generator=torch.Generator().manual_seed(seed))
        self.evaluations = 0

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        self.evaluations += 1
        user = torch.arange(len(self.tables))[:, None, None]
        return self.tables[user, torch.arange(codes.shape[2]), codes].sum(2, keepdim=True).tanh()


def table_joint(users: int, sids: np.ndarray, codes: int, seed: int = 0) -> ItemSoftmax:
    vectors = torch.randn(len(sids), 8, generator=torch.Generator().manual_seed(seed + 1))
    return ItemSoftmax(
        TableStates(users, sids.shape[1], codes, seed), vectors, CandidateIndex(torch.as_tensor(sids), codes)
    )


@pytest.fixture(params=ATTENTION)
def model(request: pytest.FixtureRequest) -> MaskGR:
    torch.manual_seed(0)
    return loading.build(dataclasses.replace(SIZES, attention=request.param), Catalogue.of(SIDS, V)).eval()


def agreeing(partial: np.ndarray, sids: np.ndarray, codes: int) -> list[int]:
    """The items that have the codes of a partial SID where it has any."""
    return [
        i for i, sid in enumerate(sids) if all(p in (codes, c) for p, c in zip(partial, sid, strict=True))
    ]


def vectors_by_hand(model: MaskGR) -> torch.Tensor:
    """Per item: the sum of its digits' embeddings, and its own."""
    digits = model.embedding.weight[torch.as_tensor(SIDS) + torch.arange(H) * V].sum(1)
    return digits + model.item_embedding.weight[:-1]


@torch.no_grad()
def test_a_digit_has_the_probability_of_the_items_that_agree(model: MaskGR) -> None:
    codes = torch.tensor([[[V, V, V], [*SIDS[9, :2], V], [V, SIDS[4, 1], V], list(SIDS[2])]]).expand(
        2, -1, -1
    )
    expected = model.denoiser(HISTORIES)
    logp = expected(codes)
    states, w = expected.states(codes)[:, :, 0], vectors_by_hand(model)
    for user in range(2):
        for beam in range(4):
            items = agreeing(codes[user, beam].numpy(), SIDS, V)
            share = (w[items] @ states[user, beam]).softmax(0)
            for h in range(H):
                mass = torch.zeros(V).index_add_(0, torch.as_tensor(SIDS[items, h]), share)
                torch.testing.assert_close(logp[user, beam, h].exp(), mass, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_loss_is_that_of_the_item_among_those_that_agree(model: MaskGR) -> None:
    """Weighted by the mean of its digits' weights, fully masked or not."""
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(3))
    expected, w, whole = 0.0, vectors_by_hand(model), []
    for real, weight, place in masked_items(items, weights):
        item = real[place]
        masked = np.where(
            weight > 0, H * V + np.arange(H), SIDS[real] + np.arange(H) * V
        )  # digits as the model numbers them
        if model.prefix:
            partial = torch.as_tensor(np.where(weight[place] > 0, V, SIDS[item]))
            state = model.denoiser(torch.tensor([real[:place]], dtype=torch.int64)).states(
                partial[None, None]
            )[0, 0, 0]
        else:
            shown = torch.tensor([[-1 if (wt > 0).any() else i for i, wt in zip(real, weight, strict=True)]])
            state = model.hidden(torch.as_tensor(masked)[None], shown, len(real))[0, place]
        alike = agreeing(np.where(weight[place] > 0, V, SIDS[item]), SIDS, V)
        whole.append(len(alike) == N)
        expected -= weight[place].sum() * (w[alike] @ state).log_softmax(0)[alike.index(item)].item()
    assert any(whole)
    assert not all(whole)
    assert model(items, weights).item() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    digits=st.integers(1, 6),
    codes=st.sampled_from([2, 3, 16, 256]),
    items=st.integers(1, 40),
    spare=st.integers(0, 30),
    unmask=st.sampled_from(ORDERS),
    T=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_probabilities_of_all_items_add_up_to_one_and_the_beam_finds_them(
    digits: int, codes: int, items: int, spare: int, unmask: str, T: int, seed: int
) -> None:
    """Every order, every T: no probability leaves the catalogue, and a beam as wide as the catalogue is exhaustive."""
    sids = catalogue(items, digits, codes, seed)
    decoding = Decoding(unmask=unmask, nfe=min(T, digits), beams=len(sids) + spare, seed=seed)
    expected, users, index = table_joint(3, sids, codes, seed), torch.arange(3), PartialIndex(sids, codes)
    found = beam_search(expected, users, index, decoding)
    assert expected.states.evaluations == min(T, digits)
    scores, items_ = score_every_item(expected, users, index, decoding).sort(dim=1, descending=True)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(3), atol=1e-4, rtol=1e-4)
    assert torch.equal(found.items[:, : len(sids), 0], items_)
    torch.testing.assert_close(found.scores[:, : len(sids)], scores, atol=1e-4, rtol=1e-4)
    assert found.scores[:, len(sids) :].isneginf().all()


@pytest.mark.parametrize("unmask", ORDERS)
def test_states_that_see_no_digits_make_order_and_evaluations_irrelevant(unmask: str) -> None:
    expected = table_joint(2, SIDS, V)
    expected.states.tables[:, :, :] = expected.states.tables[:, :1, :1]
    users, index = torch.arange(2), PartialIndex(SIDS, V)
    scores = [
        score_every_item(expected, users, index, Decoding(unmask=unmask, nfe=T)) for T in range(1, H + 1)
    ]
    for other in scores:
        torch.testing.assert_close(other, expected.items(torch.full((2, 1, H), V)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("T", [2, 3])
def test_competing_digits_that_are_joint_follow_from_each_other(T: int) -> None:
    """Where states see no digits, all ways to an item have its own probability, also where an evaluation reveals several digits."""
    expected = table_joint(2, SIDS, V)
    expected.states.tables[:, :, :] = expected.states.tables[:, :1, :1]
    found = beam_search(
        expected,
        torch.arange(2),
        PartialIndex(SIDS, V),
        Decoding(unmask=CONFIDENCE, nfe=T, beams=(V + 1) ** H),
    )
    scores, items = expected.items(torch.full((2, 1, H), V)).sort(dim=1, descending=True)
    assert torch.equal(found.items[:, :N, 0], items)
    torch.testing.assert_close(found.scores[:, :N], scores, atol=1e-5, rtol=1e-5)


def test_energies_of_many_pairs_are_those_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, codes = table_joint(2, SIDS, V), torch.tensor([[[V, SIDS[4, 1], V], [0, V, V]]] * 2)
    whole = expected(codes)
    monkeypatch.setattr(joint, "PAIRS", 3)
    assert torch.equal(expected(codes), whole)


def test_guidance_weighs_the_items() -> None:
    """p(item | history)^(1 + w) / p(item)^w, normalised over the items."""
    one, other = table_joint(2, SIDS, V, 1), table_joint(2, SIDS, V, 2)
    other = ItemSoftmax(other.states, one.vectors, one.candidates)
    nothing = torch.full((2, 1, H), V)
    both = (1.5 * one.items(nothing) - 0.5 * other.items(nothing)).log_softmax(1)
    torch.testing.assert_close(guided(one, other, 0.5).items(nothing), both, atol=1e-5, rtol=1e-5)


def test_users_of_a_large_catalogue_are_decoded_a_few_at_a_time(
    model: MaskGR, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = np.array([3, 7, 5, 2, 9, 4, 1, 6], np.int32)
    split = Split(items, np.arange(5) * 2, np.arange(4, dtype=np.int32), np.ones((4, 1), np.int32))

    def search() -> Recommendations:
        return recommend(model, split, PartialIndex(SIDS, V), Decoding(beams=5), ListProgress())

    whole = search()
    monkeypatch.setattr(recommending, "CELLS", N)
    one_by_one = search()
    assert np.array_equal(one_by_one.items, whole.items)
    np.testing.assert_allclose(one_by_one.scores, whole.scores, atol=1e-5)


@torch.no_grad()
def test_what_was_computed_from_the_weights_is_forgotten_in_training(model: MaskGR) -> None:
    codes = torch.full((2, 1, H), V)
    before = model.denoiser(HISTORIES).items(codes)
    model.train()
    model.item_embedding.weight[3, 0] += 5
    model.eval()
    assert not torch.allclose(model.denoiser(HISTORIES).items(codes), before)


def test_no_item_at_all_stays_zero(model: MaskGR) -> None:
    """Padding brings nothing, whatever is learnt."""
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(0))
    model(items, weights).backward()
    assert not model.item_embedding.weight[-1].any()
    assert not model.item_embedding.weight.grad[-1].any()


def both_losses(
    items: list[int], masked: torch.Tensor, negatives: int, smoothing: float = 0.1
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss and gradients of states and vectors in a row) of the whole catalogue and of a sample."""
    generator, found = torch.Generator().manual_seed(5), []
    states, vectors = torch.randn(len(items), 8, generator=generator), torch.randn(N, 8, generator=generator)
    weights, true, sids = (
        torch.rand(len(items), generator=generator),
        torch.tensor(items),
        torch.as_tensor(SIDS),
    )
    torch.manual_seed(0)
    for sampled in (False, True):
        z, w = states.clone().requires_grad_(), vectors.clone().requires_grad_()
        if sampled:
            loss = sampled_item_softmax_loss(
                z,
                lambda chosen, w=w: w[chosen],
                CandidateIndex(sids, V),
                true,
                masked,
                weights,
                negatives,
                smoothing,
            )
        else:
            loss = item_softmax_loss(z, w, sids, true, masked, weights, smoothing)
        loss.backward()
        found.append(torch.cat((loss.detach()[None], z.grad.flatten(), w.grad.flatten())))
    return found[0], found[1]


def test_a_sampled_loss_is_exact_where_a_digit_is_known() -> None:
    masked = torch.tensor([[True, False, True], [False, False, True], [False, False, False]])
    whole, sample = both_losses([3, 7, 3], masked, negatives=1)
    torch.testing.assert_close(sample, whole, atol=1e-5, rtol=1e-5)


def test_a_sampled_loss_nears_that_of_the_whole_catalogue() -> None:
    """The drawn items stand for all others, however few they are among the drawn; the true item never stands for another."""
    whole, sample = both_losses([3, 7, 9], torch.ones(3, H, dtype=torch.bool), negatives=400_000)
    torch.testing.assert_close(sample, whole, atol=1e-2, rtol=1e-2)
    assert not torch.equal(sample, whole)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothing_spreads_a_whole_target_over_the_catalogue(smoothing: float) -> None:
    """−Σ_j q_j log p_j with q_j = ε/N, and 1 − ε more for the true item; a partly masked item keeps its whole target."""
    states, vectors, true = torch.randn(2, 8), torch.randn(N, 8), torch.tensor([4, 9])
    masked = torch.tensor([[True] * H, [True, True, False]])
    logp = (vectors @ states[0]).log_softmax(0)
    expected = -(1 - smoothing) * logp[4] - smoothing * logp.mean()
    agree = [i for i in range(N) if SIDS[i, 2] == SIDS[9, 2]]
    expected -= (vectors[agree] @ states[1]).log_softmax(0)[agree.index(9)]
    found = item_softmax_loss(states, vectors, torch.as_tensor(SIDS), true, masked, torch.ones(2), smoothing)
    torch.testing.assert_close(found, expected)


def test_smoothing_counts_what_histories_hold() -> None:
    """The score of an item has the repeat bias as often as the item is held, in the true item's part and in the mean over all."""
    z, w, true, weights = torch.randn(3, 8), torch.randn(N, 8), torch.tensor([4, 9, 4]), torch.rand(3)
    held = Held(torch.tensor([[4, 7, 4], [-1, -1, 3], [-1, -1, -1]]), torch.tensor([-1.5]))
    scores = z @ w.T
    for row, items in enumerate(held.items.tolist()):
        for item in (i for i in items if i >= 0):
            scores[row, item] -= 1.5
    expected = (
        torch.nn.functional.cross_entropy(scores, true, reduction="none", label_smoothing=0.3) @ weights
    )
    torch.testing.assert_close(softmax_loss(z, w, true, weights, 0.3, held), expected)


def test_with_two_items_a_sample_is_the_catalogue() -> None:
    """Whichever way the draws fall, those that are the other item stand for it alone."""
    sids, true = torch.tensor([[0], [1]]), torch.tensor([0, 1, 1])
    states, vectors, masked = torch.randn(3, 4), torch.randn(2, 4), torch.ones(3, 1, dtype=torch.bool)
    sample = sampled_item_softmax_loss(
        states, lambda chosen: vectors[chosen], CandidateIndex(sids, 2), true, masked, torch.ones(3), 50
    )
    torch.testing.assert_close(sample, item_softmax_loss(states, vectors, sids, true, masked, torch.ones(3)))


def test_a_model_learns_from_a_sample(model: MaskGR) -> None:
    """The option reaches the loss, and the loss every parameter that the whole catalogue's does."""
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(3))
    expected = model(items, weights).item()
    few = loading.build(dataclasses.replace(model.config, negatives=20_000), Catalogue.of(SIDS, V))
    few.load_state_dict(model.state_dict())
    torch.manual_seed(0)
    loss = few(items, weights)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-2)
    assert loss.item() != expected
    assert all(p.grad is not None for p in few.parameters())
    for wrong in ({"negatives": -1}, {"negatives": 5, "likelihood": "digit"}):
        with pytest.raises(
            UserError, match="--negatives is -1; it must be between|--negatives goes with --likelihood item"
        ):
            dataclasses.replace(model.config, **wrong)


def test_what_needs_item_tokens_says_so() -> None:
    for option, instead in (
        ({"likelihood": "item"}, "--likelihood digit"),
        ({"item_embeddings": True}, "--no-item-embeddings"),
    ):
        with pytest.raises(UserError, match=f"goes with --tokens item; with --tokens digit take {instead}"):
            MaskGRConfig(**option)
    with pytest.raises(UserError, match="--likelihood 'both' is unknown"):
        MaskGRConfig(likelihood="both")
