"""MaskGR compared with its formulas written out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.registry import model_config
from pipelines.models.sid.digit_heads import DigitHeads
from pipelines.models.sid_models.config import ATTENTION, LIKELIHOODS, TOKENS, MaskGRConfig
from pipelines.models.sid_models.maskgr import MaskGR

N, H, V = 30, 3, 8
SIZES = MaskGRConfig(layers=2, width=16, heads=2, mlp=32, dropout=0.0, max_items=6)
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)


@pytest.fixture(params=TOKENS)
def model(request: pytest.FixtureRequest) -> MaskGR:
    torch.manual_seed(0)
    return loading.build(dataclasses.replace(SIZES, tokens=request.param), Catalogue.of(SIDS, V)).eval()


def test_the_loss_is_equation_3_written_out(model: MaskGR) -> None:
    """The loss sums, over sequences and masked digits, −log softmax over the digit's V codes times 1/t. The
    logits are those of the digit's state, or of its item's state.
    """
    items = np.array([[-1, -1, 3, 7], [5, 2, 9, 4]])
    items, weights = model.make_training_batch(items, np.random.default_rng(1))
    expected = 0.0
    for row, weight in zip(items, weights, strict=True):
        sequence = [i for i in row if i >= 0]
        weight = weight[-len(sequence) :]  # [n, H]
        tokens = [
            [H * V + h if weight[i, h] else h * V + SIDS[item, h] for h in range(H)]
            for i, item in enumerate(sequence)
        ]
        hidden = model.hidden(torch.tensor([tokens]), torch.tensor([sequence]), len(sequence))
        states = hidden.view(len(sequence), -1, 16)  # [n, P, D]
        for i, h in np.argwhere(weight > 0):
            logp = (states[i, h % states.shape[1]] @ model.heads.weight[h]).log_softmax(-1)
            expected -= float(weight[i, h]) * logp[SIDS[sequence[i], h]].item()
    assert (weights[0, :2] == 0).all()
    assert model(items, weights).item() == pytest.approx(expected, rel=1e-5)


def test_smoothing_spreads_a_digits_target_over_its_codes() -> None:
    """The loss is −Σ_c q_c log p_c with q_c = ε/V, plus 1 − ε for the true code."""
    heads = DigitHeads(2, 16, V, smoothing=0.3)
    states, codes, weights = torch.randn(3, 16), torch.tensor([1, 0, 2]), torch.tensor([1.0, 2.0, 0.5])
    expected = 0.0
    for digit, z, code, weight in zip((0, 0, 1), states, codes, weights, strict=True):
        logp = (z @ heads.weight[digit]).log_softmax(0)
        expected = expected - weight * (0.7 * logp[code] + 0.3 * logp.mean())
    torch.testing.assert_close(heads.loss(states, codes, weights, [2, 1]), expected)


def test_log_probabilities_are_normalized_and_depend_on_unmasked_digits(model: MaskGR) -> None:
    history = torch.tensor([[1, 2, 3]])
    codes = torch.full((1, 1, H), V)
    base = model.denoiser(history)(codes)
    unmasked = codes.clone()
    unmasked[..., 1] = 4
    assert not torch.allclose(model.denoiser(history)(unmasked), base)
    assert base.shape == (1, 1, H, V)
    torch.testing.assert_close(base.exp().sum(-1), torch.ones(1, 1, H))


def test_a_batch_is_its_members(model: MaskGR) -> None:
    histories = torch.tensor([[-1, -1, 3, 7], [5, 2, 9, 4]])
    codes = torch.randint(0, V + 1, (2, 5, H), generator=torch.Generator().manual_seed(0))
    both = model.denoiser(histories)(codes)
    for row, history in enumerate([[3, 7], [5, 2, 9, 4]]):
        for beam in range(5):
            alone = model.denoiser(torch.tensor([history]))(codes[row : row + 1, beam : beam + 1])
            torch.testing.assert_close(alone[0, 0], both[row, beam], atol=1e-5, rtol=1e-5)


def test_weights_of_another_shape_are_refused(model: MaskGR, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    loading.save(
        loading.build(MaskGRConfig(layers=2, width=32, heads=2, mlp=32), Catalogue.of(SIDS, V)), path
    )
    with pytest.raises(UserError, match=r"does not fit .*\(.*32.*\) in the file"):
        loading.load(model, path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        loading.load(model, path)
    with pytest.raises(UserError, match="does not exist"):
        loading.load(model, tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="'gru' is unknown"):
        model_config("gru", {})
    with pytest.raises(UserError, match="^--loss has no effect on --model maskgr, only on sasrec"):
        model_config("maskgr", {"loss": "bce"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": 0},
        {"width": 15},
        {"width": 20, "heads": 4, "mlp": 0},
        {"dropout": 1.0},
        {"label_smoothing": 1.0},
        {"heads": 3},
        {"max_items": 0},
    ],
)
def test_sizes_out_of_bounds_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="--"):
        MaskGRConfig(**wrong)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("attention", ATTENTION)
def test_a_training_step_does_not_wait_for_its_device(
    attention: str, likelihood: str, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meta tensor has no values, so that reading one fails: all shapes come from the host, forward and
    backward.
    """
    # PyTorch does not know autocast for the device "meta".
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    text = np.random.default_rng(0).normal(size=(len(SIDS), 5))
    config = dataclasses.replace(
        SIZES,
        attention=attention,
        tokens="item",
        likelihood=likelihood,
        dropout=0.1,
        dense=dense,
        whole_item=0.5,
    )
    model = loading.build(config, Catalogue.of(SIDS, V, text))
    items = np.array([[-1, -1, 3, 7], [5, 2, 9, 4]])
    drawn = model.make_training_batch(items, np.random.default_rng(1))
    loss = model.to("meta").train()(*drawn)
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(RuntimeError, match="meta"):
        loss.item()
