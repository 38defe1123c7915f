"""The item softmax compared with sums over the catalogue written out, and properties of any distribution over
items."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.candidates import CandidateIndex
from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Split
from pipelines.data.windows import WindowIndex, candidate_index
from pipelines.decode.beam import beam_search
from pipelines.decode.config import CONFIDENCE, ORDERS, Decoding
from pipelines.decode.exhaustive import score_every_item
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate import recommend as recommending
from pipelines.evaluate.recommend import Recommendations, recommend
from pipelines.models import loading
from pipelines.models.denoiser import Denoiser
from pipelines.models.objectives.repeat_bias import RepeatBias
from pipelines.models.sid import item_denoiser, item_softmax, output_vectors
from pipelines.models.sid.item_softmax import ItemSoftmax
from pipelines.models.sid.item_softmax_loss import ItemTargets, item_softmax_loss, sampled_item_softmax_loss
from pipelines.models.sid.output_vectors import OutputVectors
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
    """States [B, K, 1, D] from random tables, which depend on every unmasked digit.

    Attributes:
        evaluations: number of function evaluations so far.
    """

    def __init__(self, users: int, digits: int, codes: int, seed: int = 0) -> None:
        self.tables = torch.randn(users, digits, codes + 1, 8, generator=torch.Generator().manual_seed(seed))
        self.evaluations = 0

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        self.evaluations += 1
        user = torch.arange(len(self.tables))[:, None, None]
        return self.tables[user, torch.arange(codes.shape[2]), codes].sum(2, keepdim=True).tanh()


def table_softmax(users: int, sids: np.ndarray, codes: int, seed: int = 0) -> ItemSoftmax:
    """Return an item softmax with random item vectors and states from tables."""
    vectors = torch.randn(len(sids), 8, generator=torch.Generator().manual_seed(seed + 1))
    w = own_vectors(sids, vectors)
    return ItemSoftmax(TableStates(users, sids.shape[1], codes, seed), w, CandidateIndex(w.sids, codes))


def own_vectors(sids: np.ndarray, vectors: torch.Tensor) -> OutputVectors:
    """Return given vectors [N, D] as output vectors."""
    return OutputVectors(torch.as_tensor(sids), None, vectors)


def blind_softmax(users: int, sids: np.ndarray, codes: int, seed: int = 0) -> ItemSoftmax:
    """Return an item softmax whose states depend on the user alone."""
    denoiser = table_softmax(users, sids, codes, seed)
    denoiser.states.tables[:, :, :] = denoiser.states.tables[:, :1, :1]
    return denoiser


def item_scores(denoiser: Denoiser) -> torch.Tensor:
    """Return the log-probabilities of all items for two users, [2, N]."""
    return denoiser.score_items(torch.full((2, 1, H), V), torch.as_tensor(SIDS)).log_probs()


@pytest.fixture(params=ATTENTION)
def model(request: pytest.FixtureRequest) -> MaskGR:
    torch.manual_seed(0)
    return loading.build(dataclasses.replace(SIZES, attention=request.param), Catalogue.of(SIDS, V)).eval()


def agreeing(partial: np.ndarray, sids: np.ndarray, codes: int) -> list[int]:
    """Return the items that have the codes of a partial SID at its unmasked digits."""
    return [
        i for i, sid in enumerate(sids) if all(p in (codes, c) for p, c in zip(partial, sid, strict=True))
    ]


def vectors_by_hand(model: MaskGR) -> torch.Tensor:
    """Return w of all items: the sum of the digits' embeddings plus the item's embedding, [N, D]."""
    digits = model.embedding.weight[torch.as_tensor(SIDS) + torch.arange(H) * V].sum(1)
    return digits + model.item_embedding.weight[:-1]


@torch.no_grad()
def test_a_digit_has_the_probability_of_the_items_that_agree(model: MaskGR) -> None:
    codes = torch.tensor([[[V, V, V], [*SIDS[9, :2], V], [V, SIDS[4, 1], V], list(SIDS[2])]]).expand(
        2, -1, -1
    )
    denoiser = model.denoiser(HISTORIES)
    logp = denoiser(codes)
    states, w = denoiser.states(codes)[:, :, 0], vectors_by_hand(model)
    for user in range(2):
        for beam in range(4):
            items = agreeing(codes[user, beam].numpy(), SIDS, V)
            share = (w[items] @ states[user, beam]).softmax(0)
            for h in range(H):
                mass = torch.zeros(V).index_add_(0, torch.as_tensor(SIDS[items, h]), share)
                torch.testing.assert_close(logp[user, beam, h].exp(), mass, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_loss_is_that_of_the_item_among_those_that_agree(model: MaskGR) -> None:
    """An item's loss is weighted by the sum of its digits' weights, for fully and partly masked items."""
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(3))
    expected, w, fully = 0.0, vectors_by_hand(model), []
    for sequence, weight, position in masked_items(items, weights):
        item = sequence[position]
        partial = np.where(weight[position] > 0, V, SIDS[item])
        if model.encodes_once:
            denoiser = model.denoiser(torch.tensor([sequence[:position]], dtype=torch.int64))
            state = denoiser.states(torch.as_tensor(partial)[None, None])[0, 0, 0]
        else:
            tokens = np.where(weight > 0, H * V + np.arange(H), SIDS[sequence] + np.arange(H) * V)  # [n, H]
            masked = (weight > 0).any(1)
            visible = torch.tensor([[-1 if m else i for i, m in zip(sequence, masked, strict=True)]])
            state = model.hidden(torch.as_tensor(tokens)[None], visible, len(sequence))[0, position]
        agree = agreeing(partial, SIDS, V)
        fully.append(len(agree) == N)
        expected -= weight[position].sum() * (w[agree] @ state).log_softmax(0)[agree.index(item)].item()
    assert any(fully)
    assert not all(fully)
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
    """For every order and every T the items share all probability, and a search with as many beams as items
    is exhaustive.
    """
    sids = catalogue(items, digits, codes, seed)
    decoding = Decoding(unmask=unmask, nfe=min(T, digits), beams=len(sids) + spare, seed=seed)
    denoiser, users, index = table_softmax(3, sids, codes, seed), torch.arange(3), PartialIndex(sids, codes)
    found = beam_search(denoiser, users, index, decoding)
    assert denoiser.states.evaluations == min(T, digits)
    scores, items_ = score_every_item(denoiser, users, index, decoding).sort(dim=1, descending=True)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(3), atol=1e-4, rtol=1e-4)
    assert torch.equal(found.items[:, : len(sids), 0], items_)
    torch.testing.assert_close(found.scores[:, : len(sids)], scores, atol=1e-4, rtol=1e-4)
    assert found.scores[:, len(sids) :].isneginf().all()


@pytest.mark.parametrize("unmask", ORDERS)
def test_order_and_evaluations_do_not_matter_where_states_see_no_digits(unmask: str) -> None:
    denoiser = blind_softmax(2, SIDS, V)
    users, index = torch.arange(2), PartialIndex(SIDS, V)
    scores = [
        score_every_item(denoiser, users, index, Decoding(unmask=unmask, nfe=T)) for T in range(1, H + 1)
    ]
    for other in scores:
        torch.testing.assert_close(other, item_scores(denoiser), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("T", [2, 3])
def test_competing_digits_of_an_item_softmax_condition_on_each_other(T: int) -> None:
    """Where states see no digits, every path to an item has the item's probability, also where an evaluation
    unmasks several digits.
    """
    denoiser = blind_softmax(2, SIDS, V)
    found = beam_search(
        denoiser,
        torch.arange(2),
        PartialIndex(SIDS, V),
        Decoding(unmask=CONFIDENCE, nfe=T, beams=(V + 1) ** H),
    )
    scores, items = item_scores(denoiser).sort(dim=1, descending=True)
    assert torch.equal(found.items[:, :N, 0], items)
    torch.testing.assert_close(found.scores[:, :N], scores, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_refining_equals_a_new_evaluation_where_states_see_no_digits() -> None:
    """Beams of the last evaluation are copied, and then unmask a digit."""
    codes = torch.tensor([[[V, V, V], [*SIDS[9, :2], V], [V, SIDS[4, 1], V]]] * 2)  # [2, 3, H]
    denoiser = blind_softmax(2, SIDS, V)
    logp = denoiser(codes)
    same = torch.arange(3).expand(2, -1)
    torch.testing.assert_close(denoiser.refine(codes, same), logp, atol=1e-6, rtol=1e-6)
    origin = torch.tensor([[2, 0, 0, 1], [0, 2, 1, 0]])
    later = codes.gather(1, origin[..., None].expand(-1, -1, H)).clone()  # [2, 4, H]
    later[:, :, 2] = torch.tensor([SIDS[9, 2], SIDS[4, 2]])[:, None]
    refined = denoiser.refine(later, origin)
    torch.testing.assert_close(refined, blind_softmax(2, SIDS, V)(later), atol=1e-6, rtol=1e-6)
    assert denoiser.states.evaluations == 1


@torch.no_grad()
def test_refining_keeps_the_states_of_the_beam_that_each_beam_descends_from() -> None:
    """The items that agree with the new codes share all probability, by the logits of the old states."""
    denoiser = table_softmax(2, SIDS, V)
    codes = torch.tensor([[[V, V, V], [V, SIDS[4, 1], V]]] * 2)  # [2, 2, H]
    denoiser(codes)
    states = denoiser.states(codes)[:, :, 0]  # [2, 2, D]
    origin, later = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[[V, *SIDS[4, 1:]]] * 2] * 2)
    refined = denoiser.refine(later, origin)
    items = agreeing(later[0, 0].numpy(), SIDS, V)
    for user, beam in itertools.product(range(2), range(2)):
        share = (denoiser.vectors.own[items] @ states[user, origin[user, beam]]).softmax(0)
        mass = torch.zeros(V).index_add_(0, torch.as_tensor(SIDS[items, 0]), share)
        torch.testing.assert_close(refined[user, beam, 0].exp(), mass, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_agreeing_items_are_those_of_the_last_evaluation() -> None:
    denoiser = table_softmax(2, SIDS, V)
    codes = torch.tensor([[[V, V, V], [V, SIDS[4, 1], V]]] * 2)  # [2, 2, H]
    denoiser(codes)
    pairs, states = denoiser.agreeing(codes), denoiser.states(codes).flatten(0, 2)  # [4, D]
    for row, partial in enumerate(codes.flatten(0, 1).numpy()):
        items = agreeing(partial, SIDS, V)
        order = pairs.items[pairs.rows == row].argsort()
        assert pairs.items[pairs.rows == row][order].tolist() == items
        share = (denoiser.vectors.own[items] @ states[row]).softmax(0)
        torch.testing.assert_close(pairs.probabilities[pairs.rows == row][order], share, atol=1e-6, rtol=1e-5)


def test_logits_pair_by_pair_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, codes = table_softmax(2, SIDS, V), torch.tensor([[[V, SIDS[4, 1], V], [0, V, V]]] * 2)
    whole = denoiser(codes)
    monkeypatch.setattr(item_denoiser, "PAIRS", 3)
    monkeypatch.setattr(item_softmax, "CELLS", 2 * N)
    monkeypatch.setattr(output_vectors, "PAIRS", 3)
    assert torch.equal(denoiser(codes), whole)


def test_guidance_extrapolates_the_items_logits() -> None:
    """The guided distribution is p(item | history)^(1 + w) / p(item)^w, normalized over the items."""
    one, other = table_softmax(2, SIDS, V, 1), table_softmax(2, SIDS, V, 2)
    other = ItemSoftmax(other.states, one.vectors, one.candidates)
    both = (1.5 * item_scores(one) - 0.5 * item_scores(other)).log_softmax(1)
    torch.testing.assert_close(item_scores(one.guided(other, 0.5)), both, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("guidance", [0.0, 0.7])
def test_guidance_keeps_the_repeat_bias(guidance: float) -> None:
    """The guided distribution is that of (1 + w) · logits with the history − w · logits without it, where the
    logits include the repeat bias.
    """
    settings = {"attention": "prefix", "repeat_bias": True, "history_dropout": 0.1}
    torch.manual_seed(0)
    model = loading.build(dataclasses.replace(SIZES, **settings), Catalogue.of(SIDS, V)).eval()
    model.repeat_bias.fill_(-1.7)
    histories = torch.tensor([[-1, 7, 3, 7], [5, 2, 9, 4]])  # the first history has an item twice
    masked = torch.full((2, 1, H), V)
    conditional, unconditional = model.denoiser(histories), model.denoiser(histories[:, :0])
    w = vectors_by_hand(model)
    with_history = conditional.states(masked)[:, 0, 0] @ w.T  # [B, N]
    for user, items in enumerate(histories.tolist()):
        for item in items:
            if item >= 0:
                with_history[user, item] += -1.7
    without = unconditional.states(masked)[:, 0, 0] @ w.T  # [B, N]
    expected = ((1 + guidance) * with_history - guidance * without).log_softmax(1)
    guided = conditional.guided(unconditional, guidance)
    torch.testing.assert_close(item_scores(guided), expected, atol=1e-5, rtol=1e-5)
    digit = torch.zeros(2, V).index_add_(1, torch.as_tensor(SIDS[:, 1]), expected.exp())
    torch.testing.assert_close(guided(masked)[:, 0, 1].exp(), digit, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(item_scores(conditional), with_history.log_softmax(1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_recommendations_with_guidance_keep_the_repeat_bias() -> None:
    """A large negative bias puts the items of the history last, under guidance too."""
    settings = {"attention": "prefix", "repeat_bias": True, "history_dropout": 0.1}
    torch.manual_seed(0)
    model = loading.build(dataclasses.replace(SIZES, **settings), Catalogue.of(SIDS, V)).eval()
    model.repeat_bias.fill_(-50.0)
    split = Split(np.array([3, 7, 5]), np.array([0, 3]), np.arange(1), np.ones((1, 1), np.int32))
    for nfe in (1, H):
        decoding = Decoding(beams=N, nfe=nfe, guidance=1.0)
        items = recommend(model, split, PartialIndex(SIDS, V), decoding, ListProgress()).items[0, :, 0]
        assert {*items[-3:].tolist()} == {3, 7, 5}


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
def test_training_mode_forgets_the_item_vectors(model: MaskGR) -> None:
    before = item_scores(model.denoiser(HISTORIES))
    model.train()
    model.item_embedding.weight[3, 0] += 5
    model.eval()
    assert not torch.allclose(item_scores(model.denoiser(HISTORIES)), before)


def test_the_embedding_of_padding_stays_zero(model: MaskGR) -> None:
    """Padding contributes nothing, and has no gradient."""
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(0))
    model(items, weights).backward()
    assert not model.item_embedding.weight[-1].any()
    assert not model.item_embedding.weight.grad[-1].any()


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", [[True, False, True], [False, False, True], [False] * 3, [True] * 3])
@pytest.mark.parametrize("kind", [CandidateIndex, WindowIndex])
def test_a_sample_of_all_items_that_count_is_exact(
    kind: type[CandidateIndex], masked: list[bool], biased: bool
) -> None:
    """Losses over the catalogue and over a sample, with all gradients, for partly and fully masked items with
    and without a repeat bias.
    """
    generator, found = torch.Generator().manual_seed(5), []
    states, vectors = torch.randn(3, 8, generator=generator), torch.randn(N, 8, generator=generator)
    weights, true, sids = torch.rand(3, generator=generator), torch.tensor([3, 7, 3]), torch.as_tensor(SIDS)
    targets = ItemTargets(true, torch.tensor([masked] * 3), weights)
    history = torch.tensor([[3, 8, 8], [-1, 7, 12], [9, 15, 20]])
    for sampled in (False, True):
        z, w = states.clone().requires_grad_(), vectors.clone().requires_grad_()
        scale = torch.tensor([-0.7], requires_grad=True)
        bias = RepeatBias(history, scale) if biased else None
        if sampled:
            vectors_of, candidates = (lambda chosen, w=w: w[chosen]), kind(sids, V)
            loss = sampled_item_softmax_loss(
                *(z, vectors_of, candidates, targets), negatives=N, smoothing=0.1, repeat_bias=bias
            )
        else:
            loss = item_softmax_loss(z, w, sids, targets, smoothing=0.1, repeat_bias=bias)
        loss.backward()
        grads = [part.grad.flatten() for part in (z, w, scale) if part.grad is not None]
        found.append(torch.cat((loss.detach()[None], *grads)))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("digits", [2, 40])
def test_the_mean_gradient_of_partly_masked_items_is_that_of_all_items_that_agree(
    digits: int, biased: bool
) -> None:
    """10,000 draws, of the 100 of 200 items that agree: the mean lies within three standard errors. Of 40
    digits two are visible that are no neighbors.
    """
    generator, many = torch.Generator().manual_seed(6), 10_000
    state, vectors = (torch.randn(n, 4, generator=generator) * 0.5 for n in (1, 200))
    sids = torch.stack((torch.arange(200) % 2, torch.arange(200) // 2), dim=1)
    if digits > 2:
        sids = torch.cat((sids[:, :1], sids[:, 1:].expand(-1, digits - 2), torch.zeros_like(sids[:, :1])), 1)
        sids[:, digits // 2] = sids[:, 0]
    visible = torch.tensor([h in (0, digits // 2) if digits > 2 else h == 0 for h in range(digits)])
    candidates = candidate_index(sids, 100)

    def gradient(rows: int, sampled: bool) -> torch.Tensor:
        z, history = state.repeat(rows, 1).requires_grad_(), torch.tensor([[4, 5, 4, 150]]).repeat(rows, 1)
        bias = RepeatBias(history, torch.tensor([-0.7])) if biased else None
        masked = ~visible.expand(rows, -1)
        targets = ItemTargets(torch.full((rows,), 6), masked, torch.ones(rows))
        if sampled:
            loss = sampled_item_softmax_loss(
                *(z, lambda chosen: vectors[chosen], candidates, targets), negatives=2, repeat_bias=bias
            )
        else:
            loss = item_softmax_loss(z, vectors, sids, targets, repeat_bias=bias)
        loss.backward()
        return z.grad

    torch.manual_seed(0)
    draws, exact = gradient(many, True), gradient(1, False)[0]
    error = draws.std(0) / many**0.5
    assert (error > 0).all()
    assert ((draws.mean(0) - exact).abs() < 3 * error).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothing_spreads_the_target_of_a_fully_masked_item_over_the_catalogue(smoothing: float) -> None:
    """The loss is −Σ_j q_j log p_j with q_j = ε/N, plus 1 − ε for the true item; the target of a partly
    masked item is not smoothed.
    """
    states, vectors, true = torch.randn(2, 8), torch.randn(N, 8), torch.tensor([4, 9])
    masked = torch.tensor([[True] * H, [True, True, False]])
    logp = (vectors @ states[0]).log_softmax(0)
    expected = -(1 - smoothing) * logp[4] - smoothing * logp.mean()
    agree = [i for i in range(N) if SIDS[i, 2] == SIDS[9, 2]]
    expected -= (vectors[agree] @ states[1]).log_softmax(0)[agree.index(9)]
    loss = item_softmax_loss(
        *(states, vectors, torch.as_tensor(SIDS), ItemTargets(true, masked, torch.ones(2))),
        smoothing=smoothing,
    )
    torch.testing.assert_close(loss, expected)


def test_with_two_items_a_sample_equals_the_catalogue() -> None:
    """The number of negatives is rounded up to an even one."""
    sids, true = torch.tensor([[0], [1]]), torch.tensor([0, 1, 1])
    states, vectors, masked = torch.randn(3, 4), torch.randn(2, 4), torch.ones(3, 1, dtype=torch.bool)
    sample = sampled_item_softmax_loss(
        *(
            states,
            lambda chosen: vectors[chosen],
            CandidateIndex(sids, 2),
            ItemTargets(true, masked, torch.ones(3)),
        ),
        negatives=1,
    )
    torch.testing.assert_close(
        sample, item_softmax_loss(states, vectors, sids, ItemTargets(true, masked, torch.ones(3)))
    )


def test_a_model_learns_from_a_sample(model: MaskGR) -> None:
    """With as many negatives as items the loss is that over the catalogue; every parameter has a gradient,
    and of the item embeddings those of the drawn items and of the history alone.
    """
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(3))
    expected = model(items, weights).item()
    for negatives in (N, 4):
        sampled = loading.build(dataclasses.replace(model.config, negatives=negatives), Catalogue.of(SIDS, V))
        sampled.load_state_dict(model.state_dict())
        torch.manual_seed(0)
        loss = sampled(items, weights)
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-5 if negatives == N else 0.3)
        assert all(p.grad is not None for p in sampled.parameters())
    assert loss.item() != expected
    touched = sampled.item_embedding.weight.grad.coalesce().indices()[0]
    assert len(touched) < N
    assert set(HISTORIES[HISTORIES >= 0].tolist()) <= set(touched.tolist())
    with pytest.raises(UserError, match="--negatives is -1; it must be between"):
        dataclasses.replace(model.config, negatives=-1)
    message = "^--negatives 5 needs --likelihood item; with --likelihood digit leave it out.$"
    with pytest.raises(UserError, match=message):
        dataclasses.replace(model.config, negatives=5, likelihood="digit")


def test_options_that_need_item_tokens_are_refused_without_them() -> None:
    for option, flag in (
        ({"likelihood": "item"}, "--likelihood item"),
        ({"item_embeddings": True}, "--item-embeddings"),
    ):
        message = f"^{flag} needs --tokens item; with --tokens digit leave it out.$"
        with pytest.raises(UserError, match=message):
            MaskGRConfig(**option)
    with pytest.raises(UserError, match="--likelihood 'both' is unknown"):
        MaskGRConfig(likelihood="both")
