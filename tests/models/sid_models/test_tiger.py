"""TIGER: one pass over all digits against one digit at a time, kept keys and values against none, beams against every item."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Split
from pipelines.decode.beam import beam_search
from pipelines.decode.config import Decoding
from pipelines.decode.exhaustive import score_every_item, walk
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.diagnose import diagnose_run
from pipelines.evaluate.recommend import recommend
from pipelines.evaluate.run import evaluate_run
from pipelines.models import loading
from pipelines.models.nn.packing import Layout
from pipelines.models.sid_models.config import TIGERConfig
from pipelines.models.sid_models.tiger import TIGER
from pipelines.train.config import TrainConfig
from pipelines.train.run import Plan, train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.conftest import write_sids

N, H, V, D = 20, 3, 5, 16
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)
HISTORIES = torch.tensor([[-1, -1, 3, 7], [5, 2, 9, 4]])
LEFT = Decoding(unmask="left-to-right", beams=N)
EXACT = {"atol": 2e-6, "rtol": 1e-5}


def build(**sizes: object) -> TIGER:
    torch.manual_seed(0)
    config = TIGERConfig(layers=2, width=D, heads=2, mlp=32, dropout=0.0, max_items=6, **sizes)
    return loading.build(config, Catalogue.of(SIDS, V)).eval()


@pytest.fixture
def model() -> TIGER:
    return build()


def test_a_block_that_looks_at_states_is_the_formula(model: TIGER) -> None:
    """x + W softmax(q k / √d) v over the real states of its own row."""
    block, x, states = model.decoder.blocks[0], torch.randn(2, 3, D), torch.randn(7, D)
    real = torch.tensor([[False, True, True, True], [True] * 4])
    layout = Layout.of(real)
    got = block.cross_attend(x, block.memory_kv(states, layout), layout.real[:, None, None, :])
    for row, own in enumerate((states[:3], states[3:])):
        normed = F.layer_norm(x[row], (D,), block.cross_norm.weight, block.cross_norm.bias)
        q, k, v = normed @ block.cross_q.weight.T, *(own @ block.cross_kv.weight.T).chunk(2, dim=1)
        heads = []
        for head in (slice(0, 8), slice(8, 16)):
            heads.append((q[:, head] @ k[:, head].T / 8**0.5).softmax(1) @ v[:, head])
        torch.testing.assert_close(
            got[row], x[row] + torch.cat(heads, dim=1) @ block.cross_out.weight.T, **EXACT
        )


@pytest.mark.parametrize("horizon", [1, 2])
def test_the_loss_is_that_of_one_digit_at_a_time(model: TIGER, horizon: int) -> None:
    """All digits in one pass, of histories of unlike length, against the walk to the target through the decoder."""
    items, weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(0), horizon)
    assert weights.sum() == 2 * horizon * H
    expected = 0.0
    for row in HISTORIES:
        row = row[row >= 0]
        truth = torch.as_tensor(SIDS[row[-horizon:]].reshape(1, 1, -1))
        expected -= walk(
            model.denoiser(row[None, :-horizon]), torch.zeros(1, dtype=torch.int64), truth, V, LEFT
        ).item()
    assert model(items, weights).item() == pytest.approx(expected, rel=1e-5)


def test_a_history_is_seen_whole_and_a_digit_not_by_those_before(model: TIGER) -> None:
    """Everything in the history changes the first digit's state; later digits change only later states."""
    weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(0))[1]
    states = model._taught(HISTORIES, weights)[0]
    for place in range(3):
        other = HISTORIES.clone()
        other[1, place] = 11
        assert (model._taught(other, weights)[0][1, 0] - states[1, 0]).abs().max() > 1e-5
    model.item_digits[4, 1] += 1  # the second digit of the second row's target
    changed = (model._taught(HISTORIES, weights)[0] - states).abs().amax(2)
    assert (changed[1, :2] == 0).all()
    assert changed[1, 2] > 1e-5
    assert (changed[0] == 0).all()


def test_kept_keys_and_values_change_nothing(model: TIGER) -> None:
    """Beams that part, end and come in another order, against a model asked for the first time; also where a call goes on from none."""
    draws, kept = np.random.default_rng(0), model.denoiser(HISTORIES)
    codes = torch.full((2, 1, 2 * H), V)
    for revealed in range(2 * H):
        fresh = model.denoiser(HISTORIES)(codes)
        torch.testing.assert_close(kept(codes)[:, :, revealed], fresh[:, :, revealed], **EXACT)
        rows = torch.as_tensor(draws.integers(0, codes.shape[1], (2, 6)))[..., None].expand(-1, -1, 2 * H)
        codes = codes.gather(1, rows)
        codes[:, :, revealed] = torch.as_tensor(draws.integers(0, V, (2, 6)))
    codes[:, :, 2:] = V
    codes[:, :, :2] = (codes[:, :, :2] + 1) % V  # no continuation of what it was last asked
    torch.testing.assert_close(kept(codes)[:, :, 2], model.denoiser(HISTORIES)(codes)[:, :, 2], **EXACT)


def test_beams_are_exact_and_cost_a_token_each(model: TIGER, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    encode, step = model.encoder.forward, model.decoder.step
    monkeypatch.setattr(
        model.encoder, "forward", lambda x, *more: calls.append(tuple(x.shape)) or encode(x, *more)
    )
    monkeypatch.setattr(
        model.decoder, "step", lambda x, *more: calls.append(tuple(x.shape)) or step(x, *more)
    )
    index, users = PartialIndex(SIDS, V), torch.arange(2)
    found = beam_search(model.denoiser(HISTORIES), users, index, LEFT)
    assert calls == [(6 * H + 2, D), (2, 1, D), (2, V, D), (2, N, D)]
    scores, items = score_every_item(model.denoiser(HISTORIES), users, index, LEFT).sort(
        dim=1, descending=True
    )
    assert torch.equal(found.items[:, :, 0], items)
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        torch.ones(2), beam_search(model.denoiser(HISTORIES), users, index, free()).scores.exp().sum(1)
    )


def free() -> Decoding:
    return Decoding(unmask="left-to-right", beams=V**H, constrained=False)


def test_two_items_ahead_against_every_pair(model: TIGER) -> None:
    users, pairs = torch.arange(2), torch.tensor(list(itertools.product(range(N), repeat=2)))  # [N², 2]
    found = beam_search(
        model.denoiser(HISTORIES),
        users,
        PartialIndex(SIDS, V),
        Decoding(unmask="left-to-right", beams=N * N),
        horizon=2,
    )
    truth = torch.as_tensor(SIDS)[pairs].flatten(1).expand(2, -1, -1)  # [2, N², 2·H]
    scores, order = walk(model.denoiser(HISTORIES), users, truth, V, LEFT).sort(dim=1, descending=True)
    assert torch.equal(found.items, pairs[order])
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=1e-5)


def test_a_user_has_a_token() -> None:
    """Of four tokens users 1 and 5 share one; it changes what is expected, and training knows whose example it is."""
    model = build(user_tokens=4)
    split = Split(np.tile([5, 2, 9], 3), np.arange(0, 12, 3), np.array([1, 5, 2]), np.array([[4], [4], [4]]))
    found = recommend(model, split, PartialIndex(SIDS, V), LEFT, ListProgress()).scores
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert np.abs(found[0] - found[2]).max() > 1e-4
    items, weights = model.make_training_batch(np.tile([5, 2, 9, 4], (3, 1)), np.random.default_rng(0))
    truth = torch.as_tensor(SIDS[4]).expand(3, 1, -1)
    expected = walk(
        model.denoiser(torch.tensor([[5, 2, 9]] * 3), torch.tensor([1, 5, 2])),
        torch.arange(3),
        truth,
        V,
        LEFT,
    )
    assert model(items, weights, np.array([[1], [5], [2]])).item() == pytest.approx(
        -expected.sum().item(), rel=1e-5
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"unmask": "greedy"}, "--unmask greedy: --model tiger reveals digits left-to-right only"),
        ({"nfe": 2}, "--nfe means nothing to --model tiger"),
        ({"remask": 1}, "--remask means nothing to --model tiger"),
        (
            {"retrieval": "dense"},
            "--retrieval dense is nothing this run can do. Its --model tiger knows generative",
        ),
    ],
)
def test_what_it_cannot_decode_is_refused(model: TIGER, asked: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_decoding(Decoding(**asked), model)
    assert resolve_decoding(Decoding(), model).order == "left-to-right"


def test_two_items_ahead_are_learnt(toy: Workspace, progress: ListProgress) -> None:
    """Item i is followed by items i + 1 and i + 2, of 60; every prefix of a sequence is an example."""
    sizes = TIGERConfig(layers=1, width=32, heads=2, mlp=64, dropout=0.0, max_items=3)
    schedule = TrainConfig(
        steps=150,
        batch_size=64,
        optimizer="muon",
        learning_rate=0.02,
        validations=1,
        precision="fp32",
        next=2,
    )
    run = train_run(toy, Plan("toy", write_sids(toy), "tiger", "test", sizes, schedule), progress)
    assert any("200 users, 400 sequences and 7 steps an epoch" in line for line in progress.messages)
    found = evaluate_run(toy, run, Decoding(beams=10), progress, precision="fp32")
    assert found.folder.name == "next2-left-to-right-k10-constrained"
    assert (
        next(row["value"] for row in found.metrics.to_pylist() if (row["metric"], row["k"]) == ("recall", 5))
        > 0.6
    )  # by chance 5 of 60
    with pytest.raises(UserError, match="--diagnose reveals digits in any order, which --model tiger cannot"):
        diagnose_run(toy, run, Decoding(), progress)


@torch.no_grad()
def test_beams_that_are_no_item_may_become_the_nearest(model: TIGER) -> None:
    """Unconstrained, most of the first beams are no item; then each is one, and none twice."""
    users, index = (
        Split(HISTORIES[1].numpy(), np.array([0, 4]), np.zeros(1, np.int32), np.zeros((1, 1), np.int32)),
        PartialIndex(SIDS, V),
    )
    free = Decoding(beams=10, constrained=False)
    plain, nearest = (
        recommend(model, users, index, resolve_decoding(decoding, model), ListProgress()).items[0, :, 0]
        for decoding in (free, Decoding(beams=10, constrained=False, nearest=True))
    )
    assert (plain < 0).sum() > 5
    found = nearest[nearest >= 0].tolist()
    assert len(found) == len(set(found)) > (plain >= 0).sum()
