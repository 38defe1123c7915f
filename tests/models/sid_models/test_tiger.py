"""TIGER: one pass over all digits compared with one digit at a time, the cache compared with none, and beams
compared with every item.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Split
from pipelines.decode.beam import beam_search
from pipelines.decode.config import Decoding
from pipelines.decode.exhaustive import score_every_item, walk
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.diagnose import diagnose_run
from pipelines.evaluate.recommend import recommend
from pipelines.evaluate.run import evaluate_run
from pipelines.models import loading
from pipelines.models.sid_models.config import TIGERConfig
from pipelines.models.sid_models.tiger import TIGER
from pipelines.train.config import TrainConfig
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.conftest import write_sids

N, H, V, D = 20, 3, 5, 16
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)
HISTORIES = torch.tensor([[-1, -1, 3, 7], [5, 2, 9, 4]])
LEFT = Decoding(unmask="left-to-right", beams=N)
FREE = Decoding(unmask="left-to-right", beams=V**H, constrained=False)
EXACT = {"atol": 2e-6, "rtol": 1e-5}


def build(**sizes: object) -> TIGER:
    torch.manual_seed(0)
    config = TIGERConfig(layers=2, width=D, heads=2, mlp=32, dropout=0.0, max_items=6, **sizes)
    return loading.build(config, Catalogue.of(SIDS, V)).eval()


@pytest.fixture
def model() -> TIGER:
    return build()


@pytest.mark.parametrize("horizon", [1, 2])
def test_the_loss_is_that_of_one_digit_at_a_time(model: TIGER, horizon: int) -> None:
    """The loss of all digits in one pass, for histories of different lengths, equals that of the walk to the
    target.
    """
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


def test_digits_see_the_whole_history_and_the_digits_before_them(model: TIGER) -> None:
    """Every item of the history changes the first digit's state; a digit changes only the states after it."""
    weights = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(0))[1]
    states = model.teacher_forced(HISTORIES, weights, None)[0]
    for position in range(3):
        other = HISTORIES.clone()
        other[1, position] = 11
        assert (model.teacher_forced(other, weights, None)[0][1, 0] - states[1, 0]).abs().max() > 1e-5
    model.embedding.sids[4, 1] += 1  # the second digit of the second row's target
    changed = (model.teacher_forced(HISTORIES, weights, None)[0] - states).abs().amax(2)
    assert (changed[1, :2] == 0).all()
    assert changed[1, 2] > 1e-5
    assert (changed[0] == 0).all()


def test_the_cache_changes_no_result(model: TIGER) -> None:
    """Beams branch, end and change their order; a new denoiser gives the same results. The last call
    continues no beam of the cache.
    """
    rng, cached = np.random.default_rng(0), model.denoiser(HISTORIES)
    codes = torch.full((2, 1, 2 * H), V)
    for unmasked in range(2 * H):
        fresh = model.denoiser(HISTORIES)(codes)
        torch.testing.assert_close(cached(codes)[:, :, unmasked], fresh[:, :, unmasked], **EXACT)
        rows = torch.as_tensor(rng.integers(0, codes.shape[1], (2, 6)))[..., None].expand(-1, -1, 2 * H)
        codes = codes.gather(1, rows)
        codes[:, :, unmasked] = torch.as_tensor(rng.integers(0, V, (2, 6)))
    codes[:, :, 2:] = V
    codes[:, :, :2] = (codes[:, :, :2] + 1) % V  # continues no cached beam
    torch.testing.assert_close(cached(codes)[:, :, 2], model.denoiser(HISTORIES)(codes)[:, :, 2], **EXACT)


def test_beams_are_exact_and_cost_one_token_each(model: TIGER, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    encode, step = model.encoder.forward, model.decoder.decode_step
    monkeypatch.setattr(
        model.encoder, "forward", lambda x, *more: calls.append(tuple(x.shape)) or encode(x, *more)
    )
    monkeypatch.setattr(
        model.decoder, "decode_step", lambda x, *more: calls.append(tuple(x.shape)) or step(x, *more)
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
        torch.ones(2), beam_search(model.denoiser(HISTORIES), users, index, FREE).scores.exp().sum(1)
    )


def test_two_items_together_against_every_pair(model: TIGER) -> None:
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
    """With four user tokens, users 3 and 7 share the last; the token changes the scores, and training has the
    same token.
    """
    model = build(user_tokens=4)
    split = Split(np.tile([5, 2, 9], 3), np.arange(0, 12, 3), np.array([3, 7, 2]), np.array([[4], [4], [4]]))
    found = recommend(model, split, PartialIndex(SIDS, V), LEFT, ListProgress()).scores
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert np.abs(found[0] - found[2]).max() > 1e-4
    items, weights = model.make_training_batch(np.tile([5, 2, 9, 4], (3, 1)), np.random.default_rng(0))
    truth = torch.as_tensor(SIDS[4]).expand(3, 1, -1)
    expected = walk(
        model.denoiser(torch.tensor([[5, 2, 9]] * 3), torch.tensor([3, 7, 2])),
        torch.arange(3),
        truth,
        V,
        LEFT,
    )
    assert model(items, weights, np.array([[3], [7], [2]])).item() == pytest.approx(
        -expected.sum().item(), rel=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unmask": "greedy"}, "--unmask greedy: --model tiger unmasks digits left-to-right only"),
        ({"nfe": 2}, "^--nfe has no effect on this run of --model tiger. Leave it out.$"),
        ({"remask": 1}, "^--remask has no effect on this run of --model tiger. Leave it out.$"),
        (
            {"retrieval": "dense"},
            "--retrieval dense: this run of --model tiger supports generative alone.",
        ),
    ],
)
def test_settings_that_it_does_not_support_are_refused(model: TIGER, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_decoding(Decoding(**settings), model)
    assert resolve_decoding(Decoding(), model).order == "left-to-right"


def test_two_items_together_are_learned(toy: Workspace, progress: ListProgress) -> None:
    """Items i + 1 and i + 2 follow item i, of 60 items; every prefix of a sequence is an example."""
    sizes = TIGERConfig(layers=1, width=32, heads=2, mlp=64, dropout=0.0, max_items=3)
    schedule = TrainConfig(
        steps=150,
        batch_size=64,
        optimizer="muon",
        learning_rate=0.02,
        validations=1,
        precision="fp32",
        horizon=2,
    )
    run = train_run(toy, Plan("toy", write_sids(toy), "tiger", "test", sizes, schedule), progress)
    assert any("200 users, 400 sequences and 7 steps an epoch" in line for line in progress.messages)
    config = EvalConfig(Decoding(beams=10), precision="fp32")
    evaluation = evaluate_run(toy, run, config, progress)
    assert evaluation.folder.name == "horizon2-left-to-right-k10-constrained"
    metrics = {(row["metric"], row["k"]): row["value"] for row in evaluation.metrics.to_pylist()}
    assert metrics["recall", 5] > 0.6  # by chance 5 of 60
    with pytest.raises(UserError, match="--diagnose unmasks digits in any order, which --model tiger cannot"):
        diagnose_run(toy, run, EvalConfig(), progress)


@torch.no_grad()
def test_beams_that_are_no_item_may_become_the_nearest(model: TIGER) -> None:
    """Without a constraint most of the first beams are no item; with --nearest each is an item, and none
    occurs twice.
    """
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
