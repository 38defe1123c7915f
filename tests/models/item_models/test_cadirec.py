"""CaDiRec: its views, what its denoiser sees, and how its losses add up."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models.item_models.cadirec import CaDiRec
from pipelines.models.item_models.config import CaDiRecConfig, SASRecConfig
from pipelines.models.item_models.sasrec import SASRec
from pipelines.models.nn.packing import Layout
from pipelines.models.objectives.gaussian import of_length
from pipelines.models.objectives.losses import contrastive_loss

SIZES = {"layers": 1, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 8}
ITEMS = np.array([[-1, -1, 3, 4, 5], [-1, 6, 7, 8, 9], [10, 11, 12, 13, 14], [-1, -1, -1, -1, 2]])


def model(**changes: object) -> CaDiRec:
    torch.manual_seed(0)
    return CaDiRec(CaDiRecConfig(**SIZES, **{"timesteps": 20, **changes}), Catalogue(30))


def drawn(net: CaDiRec) -> tuple[np.ndarray, ...]:
    return net.make_training_batch(ITEMS, np.random.default_rng(0))


def test_views_differ_only_where_items_are_replaced() -> None:
    net = model(replaced=0.4)
    history, real = torch.as_tensor(ITEMS), torch.as_tensor(ITEMS) >= 0
    vectors, changed = of_length(net.embedding.weight, 4.0), 0
    for view in torch.as_tensor(drawn(net)[2]).unbind(2):
        assert not (view & ~real).any()
        assert view.any(1).all()  # at least one a sequence
        seen = net.alternatives(history, Layout.of(real), vectors, view)
        assert torch.equal(seen[~view], history[~view])
        assert ((seen[view] >= 0) & (seen[view] < 30)).all()
        changed += int((seen != history).sum())
    assert changed > 5
    assert not torch.equal(*torch.as_tensor(drawn(net)[2]).unbind(2))


def test_replacements_are_what_the_reverse_process_ends_at(monkeypatch: pytest.MonkeyPatch) -> None:
    net, steps = model(sampling_steps=4), []
    vectors = of_length(net.embedding.weight, 4.0)

    def certain(noisy: torch.Tensor, t: torch.Tensor, *_: object) -> torch.Tensor:
        steps.append(int(t))
        assert not net.denoiser.training
        return vectors[21].expand_as(noisy)

    monkeypatch.setattr(net, "_found", certain)
    chosen = torch.zeros(ITEMS.shape, dtype=torch.bool)
    chosen[:, -1] = True
    seen = net.alternatives(torch.as_tensor(ITEMS), Layout.of(torch.as_tensor(ITEMS) >= 0), vectors, chosen)
    assert (seen[:, -1] == 21).all()
    assert steps == [20, 14, 8, 1]
    assert net.denoiser.training


def test_the_denoiser_sees_the_context_but_not_what_is_noised() -> None:
    net = model().eval()
    history = torch.tensor([[1, 2, 3, 4]])
    layout, where = Layout.of(history >= 0), torch.tensor([1])
    vectors, noise, t = of_length(net.embedding.weight, 4.0), torch.randn(1, 16), torch.tensor([9])

    def found(items: list[int]) -> torch.Tensor:
        return net._found(noise, t, vectors[items], where, layout)

    as_it_is = found([1, 2, 3, 4])
    torch.testing.assert_close(found([1, 25, 3, 4]), as_it_is)
    for other in ([25, 2, 3, 4], [1, 2, 3, 25]):  # both sides
        assert not torch.allclose(found(other), as_it_is)
    assert not torch.allclose(net._found(noise, t + 5, vectors[[1, 2, 3, 4]], where, layout), as_it_is)


def test_contrastive_loss_by_hand() -> None:
    first, second = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 1.0], [1.0, 1.0]])
    # products of a = (1, 0), b = (0, 2), a' = (3, 1), b' = (1, 1): aa' 3, ab 0, ab' 1, ba' 2, bb' 2, a'b' 4
    e = np.exp
    twins = [-np.log(e(3 / 2) / (e(3 / 2) + e(0) + e(1 / 2))), -np.log(e(3 / 2) / (e(3 / 2) + e(1) + e(2)))]
    others = [-np.log(e(1) / (e(1) + e(0) + e(1))), -np.log(e(1) / (e(1) + e(1 / 2) + e(2)))]
    by_hand = 0.5 * sum(twins) / 2 + 2.0 * sum(others) / 2
    assert contrastive_loss(first, second, torch.tensor([0.5, 2.0]), 2.0).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_without_its_two_losses_it_is_sasrec(loss: str) -> None:
    net = model(contrastive=0.0, denoising=0.0, loss=loss)
    plain = SASRec(SASRecConfig(**SIZES, loss=loss), Catalogue(30))
    plain.load_state_dict({name: net.state_dict()[name] for name in plain.state_dict()})
    items, weights, *_, last = drawn(net)
    negative = (last,) if loss == "bce" else ()
    assert torch.equal(net(*drawn(net)), plain(items, weights, *negative))
    history = torch.as_tensor(ITEMS[2:3])
    assert torch.equal(
        net.eval().scores(history, torch.tensor([0])), plain.eval().scores(history, torch.tensor([0]))
    )


def test_each_loss_counts_its_weight_times_its_mean() -> None:
    items, weights, views, denoised, alike, t = drawn(model(contrastive=0.3, denoising=0.6))
    targets = weights.sum()
    assert targets == 2 + 3 + 4
    assert denoised.sum() / targets == pytest.approx(0.6)
    assert len(np.unique(denoised[denoised > 0])) == 1
    assert (denoised[items < 0] == 0).all()
    assert alike[:, -1].sum() / targets == pytest.approx(0.3)
    assert ((t >= 1) & (t <= 20)).all()
    assert (t == t[:, :1]).all()
    assert views.shape == (4, 5, 2)


def test_cutting_a_step_into_forward_passes_changes_no_loss_but_the_contrast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = model(denoising=0.5, contrastive=0.0)
    monkeypatch.setattr(
        net.diffusion, "noised", lambda clean, t: clean * t[:, None] / 20
    )  # the noise is drawn in each pass
    pieces = [net(*(array[rows] for array in drawn(net))) for rows in ([0, 1], [2, 3])]
    torch.testing.assert_close(torch.stack(pieces).sum(), net(*drawn(net)))


def test_every_parameter_is_learnt() -> None:
    net = model()
    net(*drawn(net)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_steps": 21}, "--sampling-steps is 21; it must be between 1 and 20"),
        ({"replaced": 1.0}, "--replaced is 1.0; it must be between 0 and 0.99"),
        ({"denoising": -0.1}, "--denoising is -0.1; it must be between 0 and 10,000"),
        ({"contrastive": -0.1}, "--contrastive is -0.1; it must be between 0 and 10,000"),
        ({"temperature": 0.0}, "--temperature is 0.0; it must be between 1e-06 and 10,000"),
        ({"noise_schedule": "no"}, "--noise-schedule 'no' is unknown"),
        ({"loss": "gbce"}, "--loss gbce needs --negatives"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        CaDiRecConfig(**{"timesteps": 20, **changes})
