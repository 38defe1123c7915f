"""CaDiRec: its views, the context of its denoiser, the sum of its losses."""

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
from pipelines.models.objectives.gaussian import with_length

SIZES = {"layers": 1, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 8}
ITEMS = np.array([[-1, -1, 3, 4, 5], [-1, 6, 7, 8, 9], [10, 11, 12, 13, 14], [-1, -1, -1, -1, 2]])


def model(**changes: object) -> CaDiRec:
    torch.manual_seed(0)
    return CaDiRec(CaDiRecConfig(**SIZES, **{"timesteps": 20, **changes}), Catalogue(30))


def batch(net: CaDiRec) -> tuple[np.ndarray, ...]:
    return net.make_training_batch(ITEMS, np.random.default_rng(0))


def test_views_differ_only_where_items_are_replaced() -> None:
    net = model(replaced=0.4)
    history, real = torch.as_tensor(ITEMS), torch.as_tensor(ITEMS) >= 0
    vectors, changed = with_length(net.embedding.weight, 4.0), 0
    for view in torch.as_tensor(batch(net)[2]).unbind(2):
        assert not (view & ~real).any()
        assert view.any(1).all()  # at least one a sequence
        seen = net.replace_items(history, Layout.bidirectional(real), vectors, view)
        assert torch.equal(seen[~view], history[~view])
        assert ((seen[view] >= 0) & (seen[view] < 30)).all()
        changed += int((seen != history).sum())
    assert changed > 5
    assert not torch.equal(*torch.as_tensor(batch(net)[2]).unbind(2))


def test_replacements_are_what_the_reverse_process_ends_at(monkeypatch: pytest.MonkeyPatch) -> None:
    net, steps = model(sampling_steps=4), []
    vectors = with_length(net.embedding.weight, 4.0)

    def certain(noisy: torch.Tensor, t: torch.Tensor, *_: object) -> torch.Tensor:
        steps.append(int(t))
        assert not net.denoiser.training
        return vectors[21].expand_as(noisy)

    monkeypatch.setattr(net, "predict", certain)
    chosen = torch.zeros(ITEMS.shape, dtype=torch.bool)
    chosen[:, -1] = True
    seen = net.replace_items(
        torch.as_tensor(ITEMS), Layout.bidirectional(torch.as_tensor(ITEMS) >= 0), vectors, chosen
    )
    assert (seen[:, -1] == 21).all()
    assert steps == [20, 14, 8, 1]
    assert net.denoiser.training


def test_the_denoiser_sees_the_context_but_not_what_is_noised() -> None:
    net = model().eval()
    history = torch.tensor([[1, 2, 3, 4]])
    layout, where = Layout.bidirectional(history >= 0), torch.tensor([1])
    vectors, noise, t = with_length(net.embedding.weight, 4.0), torch.randn(1, 16), torch.tensor([9])

    def predicted(items: list[int]) -> torch.Tensor:
        return net.predict(noise, t, vectors[items], where, layout)

    base = predicted([1, 2, 3, 4])
    torch.testing.assert_close(predicted([1, 25, 3, 4]), base)
    for other in ([25, 2, 3, 4], [1, 2, 3, 25]):  # both sides
        assert not torch.allclose(predicted(other), base)
    assert not torch.allclose(net.predict(noise, t + 5, vectors[[1, 2, 3, 4]], where, layout), base)


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_without_its_two_losses_it_is_sasrec(loss: str) -> None:
    net = model(contrastive=0.0, denoising=0.0, loss=loss)
    plain = SASRec(SASRecConfig(**SIZES, loss=loss), Catalogue(30))
    plain.load_state_dict({name: net.state_dict()[name] for name in plain.state_dict()})
    items, weights, *_, last = batch(net)
    negative = (last,) if loss == "bce" else ()
    assert torch.equal(net(*batch(net)), plain(items, weights, *negative))
    history = torch.as_tensor(ITEMS[2:3])
    assert torch.equal(
        net.eval().scores(history, torch.tensor([0])), plain.eval().scores(history, torch.tensor([0]))
    )


def test_each_loss_counts_its_weight_times_its_mean() -> None:
    items, weights, views, noised, sequence, steps = batch(model(contrastive=0.3, denoising=0.6))
    targets = weights.sum()
    assert targets == 2 + 3 + 4
    assert noised.sum() / targets == pytest.approx(0.6)
    assert len(np.unique(noised[noised > 0])) == 1
    assert (noised[items < 0] == 0).all()
    assert sequence[:, -1].sum() / targets == pytest.approx(0.3)
    assert ((steps >= 1) & (steps <= 20)).all()
    assert (steps == steps[:, :1]).all()
    assert views.shape == (4, 5, 2)


def test_cutting_a_step_into_forward_passes_changes_no_loss_but_the_contrast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = model(denoising=0.5, contrastive=0.0)
    monkeypatch.setattr(
        net.diffusion, "add_noise", lambda clean, t: clean * t[:, None] / 20
    )  # the noise is drawn in each pass
    pieces = [net(*(array[rows] for array in batch(net))) for rows in ([0, 1], [2, 3])]
    torch.testing.assert_close(torch.stack(pieces).sum(), net(*batch(net)))


def test_every_parameter_is_learned() -> None:
    net = model()
    net(*batch(net)).backward()
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
