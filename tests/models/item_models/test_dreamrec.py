"""DreamRec: its loss, its guidance, its noise."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.models.base import Sampling
from pipelines.models.item_models.config import DreamRecConfig
from pipelines.models.item_models.dreamrec import DreamRec
from pipelines.models.objectives.gaussian import user_noise
from pipelines.train.config import TrainConfig
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress

OURS = {"ranking": 1.0, "vector_length": 0.3, "residual": True}


def small(**changes: object) -> DreamRecConfig:
    return DreamRecConfig(
        **{
            "layers": 1,
            "width": 16,
            "heads": 2,
            "mlp": 32,
            "dropout": 0.0,
            "max_items": 8,
            "timesteps": 30,
            **changes,
        }
    )


def model(**changes: object) -> DreamRec:
    torch.manual_seed(0)
    return DreamRec(small(**changes), Catalogue(20)).eval()


HISTORY, USERS = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), torch.tensor([11, 40, 3])


@pytest.mark.parametrize("changes", [{}, OURS])
@torch.inference_mode()
def test_guidance_is_the_published_formula(changes: dict[str, object]) -> None:
    net, w, T = model(**changes), 2.0, torch.tensor([30])
    torch.nn.init.normal_(net.unconditional)
    noise = user_noise(USERS, 16, (5, 30))
    conditional, unconditional = (
        net.denoiser(noise, c, T)
        for c in (net.last_states(HISTORY, HISTORY >= 0), net.unconditional.expand(3, -1))
    )
    by_hand = (
        ((1 + w) * conditional - w * unconditional) @ net.vectors(net.embedding.weight).T * 4 / net.length**2
    )
    torch.testing.assert_close(net.scores(HISTORY, USERS, Sampling(nfe=1, guidance=w, seed=5)), by_hand)


@torch.inference_mode()
def test_all_steps_as_published_unless_fewer_are_requested() -> None:
    net, calls = model(), []
    net.denoiser.register_forward_hook(lambda *_: calls.append(1))
    for sampling, count in (({}, 30), ({"nfe": 4}, 4), ({"nfe": 4, "guidance": 1.0}, 8)):
        calls.clear()
        net.scores(HISTORY, USERS, Sampling(**sampling))
        assert len(calls) == count
    with pytest.raises(UserError, match="--nfe 31 is more than the 30 steps"):
        net.scores(HISTORY, USERS, Sampling(nfe=31))


@torch.inference_mode()
def test_scores_depend_on_user_and_seed_but_not_on_the_batch() -> None:
    net = model()
    sampling = Sampling(nfe=5)
    together = net.scores(HISTORY, USERS, sampling)
    assert together.dtype == torch.float32
    rows = [slice(row, row + 1) for row in range(3)]
    alone = torch.cat([net.scores(HISTORY[row], USERS[row], sampling) for row in rows])
    torch.testing.assert_close(alone, together)
    assert not torch.allclose(net.scores(HISTORY, USERS, Sampling(nfe=5, seed=1)), together)
    assert not torch.allclose(net.scores(HISTORY, USERS.flip(0), sampling), together)


@pytest.mark.parametrize("changes", [{}, OURS, {**OURS, "repeat_bias": True}])
def test_loss_by_hand(changes: dict[str, object]) -> None:
    net, t = model(**changes), 12
    bias = torch.zeros(20)
    if net.repeat_bias is not None:
        net.repeat_bias.data.fill_(-2.0)
        bias[3] = -2.0
    items, weights = np.array([[-1, 3, 9]]), np.array([[0, 0, 2]], np.float32)
    torch.manual_seed(1)
    loss = net(items, weights, np.array([[0, 0, t]]), np.zeros((1, 3), bool))
    vectors = net.vectors(net.embedding.weight)
    torch.manual_seed(1)
    noisy = net.diffusion.add_noise(vectors[9:10], torch.tensor([t]))
    predicted = net.denoiser(
        noisy, net.last_states(torch.tensor([[3]]), torch.tensor([[True]])), torch.tensor([t])
    )
    error = (predicted - vectors[9]).square()
    by_hand = error.mean()  # the squared error alone, as published
    if changes:  # in units of the vectors' length, and beside a cross-entropy of cosines times √D
        by_hand = error.sum() / 0.09 - ((predicted @ vectors.T) * 4 / 0.09 + bias).log_softmax(1)[0, 9]
    torch.testing.assert_close(loss, 2 * by_hand)


def test_without_guidance_nothing_of_the_history_is_learned() -> None:
    net, items = model(), np.array([[1, 2, 3, 4]])
    batch = net.make_training_batch(items, np.random.default_rng(0))
    net(*batch[:3], np.ones((1, 4), bool)).backward()
    assert all(p.grad is None or not p.grad.any() for p in net.encoder.parameters())
    assert net.unconditional.grad.any()
    net.zero_grad()
    net(*batch[:3], np.zeros((1, 4), bool)).backward()
    assert any(p.grad.any() for p in net.encoder.parameters())
    assert not net.unconditional.grad.any()


def test_a_dropped_history_has_no_repeat_bias() -> None:
    net, items = model(**OURS, repeat_bias=True), np.array([[1, 2, 3, 4]])
    batch = net.make_training_batch(items, np.random.default_rng(0))
    for dropped in (True, False):
        net.zero_grad()
        net(*batch[:3], np.full((1, 4), dropped)).backward()
        assert bool(net.repeat_bias.grad.any()) != dropped


def test_training_batch() -> None:
    net, items = model(history_dropout=0.25), np.random.default_rng(0).integers(0, 20, (500, 9))
    items[:100, :5] = -1
    _, weights, t, dropped = net.make_training_batch(items, np.random.default_rng(1))
    targets = weights > 0
    assert targets.sum() == 400 * 8 + 100 * 3
    assert not t[~targets].any()
    counts = np.bincount(t[targets], minlength=31)
    assert counts[0] == 0
    assert counts[1:].max() - counts[1:].min() <= 2  # evenly over 1 … T
    assert dropped[targets].mean() == pytest.approx(0.25, abs=0.03)


def test_published_vectors_have_the_length_of_noise() -> None:
    net = DreamRec(small(width=64), Catalogue(500))
    assert net.vectors(net.embedding.weight).std().item() == pytest.approx(1, abs=0.02)
    ours = DreamRec(small(width=64, vector_length=0.3), Catalogue(500))
    torch.testing.assert_close(ours.vectors(ours.embedding.weight).norm(dim=1), torch.full((500,), 0.3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timesteps": 0}, "--timesteps is 0; it must be between 1 and 100,000"),
        ({"noise_schedule": "square"}, "--noise-schedule 'square' is unknown; choose linear, cosine, sqrt"),
        ({"history_dropout": 1.0}, "--history-dropout is 1.0; it must be between 0 and 0.99"),
        ({"ranking": -1.0}, "--ranking is -1.0; it must be between 0 and 10,000"),
        ({"vector_length": -1.0}, "--vector-length is -1.0; it must be between 0 and 10,000"),
        ({"repeat_bias": True}, "--repeat-bias needs --ranking"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        small(**changes)


def test_guidance_needs_an_unconditional_model() -> None:
    with pytest.raises(UserError, match="--guidance needs a run that was trained without histories too"):
        resolve_decoding(Decoding(guidance=1.0), model(history_dropout=0.0))
    assert resolve_decoding(Decoding(guidance=1.0, nfe=3), model()).retrieval == "ranking"


def test_from_training_to_the_command_line(
    toy: Workspace, progress: ListProgress, maskgr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    schedule = TrainConfig(steps=2, batch_size=32, validations=1, precision="fp32")
    run = train_run(toy, Plan("toy", None, "dreamrec", "test", small(timesteps=40), schedule), progress)
    assert any("ranking-t20-k10" in message for message in progress.messages)  # validated in 20 evaluations
    done = maskgr("eval", run.name, "--nfe", 3, "--guidance", 2, "--seed", 4, "--beams", 5)
    assert done.returncode == 0, done.stderr
    assert "40 timesteps" in done.stdout
    assert (run.path / "eval" / "ranking-t3-k5-s4-w2" / "metrics.parquet").exists()
