"""DiffGRM: the masks and weights of its views, what a digit sees, and its beams compared with exhaustive
scoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.decode.beam import beam_search, random_order
from pipelines.decode.config import Decoding
from pipelines.decode.exhaustive import score_every_item
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.models.sid_models.config import DiffGRMConfig
from pipelines.models.sid_models.diffgrm import DiffGRM
from tests.decode.models import catalogue
from tests.decode.paths import paths

SIZES = {"layers": 1, "decoder_layers": 2, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 6}
V = 5
SIDS = catalogue(30, 4, V)


def build(sids: np.ndarray = SIDS, codes: int = V, **sizes: object) -> DiffGRM:
    """Return a model whose log-probabilities differ much between codes."""
    torch.manual_seed(1)
    model = DiffGRM(DiffGRMConfig(**{**SIZES, **sizes}), Catalogue.of(sids, codes)).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and not name.startswith("heads"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_views_are_nested_and_begin_with_the_least_confidence() -> None:
    confidence = torch.tensor([[-0.1, -2.0, -0.5, -1.0], [-4.0, -3.0, -2.0, -1.0]])
    masked = build().views(confidence)
    assert [[set(view.nonzero().flatten().tolist()) for view in example] for example in masked] == [
        [{1}, {1, 3}, {1, 2, 3}, {0, 1, 2, 3}],
        [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}],
    ]
    assert build(views=2).views(confidence).sum(2).tolist() == [[2, 4]] * 2
    assert build(views=3).views(confidence).sum(2).tolist() == [[2, 3, 4]] * 2
    assert build(views=1).views(confidence).sum(2).tolist() == [[4]] * 2
    assert build(views=9).views(confidence).sum(2).tolist() == [[1, 2, 3, 4]] * 2


def log_probs(model: DiffGRM, history: list[int], codes: Sequence[int]) -> np.ndarray:
    """Return the log-probabilities [H, V] of a partial SID after a history, alone in its batch."""
    with torch.no_grad():
        return model.denoiser(torch.tensor([history]))(torch.tensor([[[*codes]]]))[0, 0].numpy()


@pytest.mark.parametrize(
    ("noising", "views"), [("on-policy", None), ("on-policy", 2), ("on-policy", 1), ("random", None)]
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_over_views_of_the_mean_over_masked_digits(
    noising: str, views: int | None, smoothing: float
) -> None:
    model = build(noising=noising, views=views, label_smoothing=smoothing)
    items = np.array([[-1, -1, 3, 8, 1], [5, 9, 28, 2, 2]])
    items, weights, *ranks = model.make_training_batch(items, np.random.default_rng(0))
    assert weights.tolist() == [[0, 0, 0, 0, 1]] * 2
    weights[1] *= 3
    truth = 0.0
    for example, (row, weight) in enumerate(zip(items.tolist(), weights[:, -1], strict=True)):
        history, sid = [i for i in row[:-1] if i >= 0], SIDS[row[-1]].tolist()
        confidence = (
            log_probs(model, history, [V] * 4).max(1) if noising == "on-policy" else ranks[0][example, -1]
        )
        order = np.argsort(confidence)  # the least confidence first
        sizes = {None: (1, 2, 3, 4), 2: (2, 4), 1: (4,)}[views]
        for size in sizes:
            masked = order[:size]
            logp = log_probs(model, history, [V if h in masked else c for h, c in enumerate(sid)])
            losses = [-(1 - smoothing) * logp[h, sid[h]] - smoothing * logp[h].mean() for h in masked]
            truth += weight * np.mean(losses) / len(sizes)
    assert model(items, weights, *ranks).item() == pytest.approx(truth, rel=1e-4)


def test_random_noising_masks_every_digit_first_equally_often() -> None:
    model = build(noising="random")
    ranks = model.make_training_batch(np.zeros((4000, 2), np.int64), np.random.default_rng(0))[2]
    first = model.views(torch.as_tensor(ranks[:, -1]))[:, 0].float().mean(0)
    assert (first - 0.25).abs().max() < 0.03


def test_a_digit_sees_the_others_and_not_itself() -> None:
    """Training on two targets that differ in digit 0 alone, which every view masks, gives the same states. In
    decoding, digits see each other in both directions.
    """
    sids = np.array([[0, 1, 2], [3, 1, 2], [4, 4, 4]])
    model, recorded = build(sids), []

    def loss(states: torch.Tensor, *_: object) -> torch.Tensor:
        recorded.append(states.unflatten(0, (3, 1, 3)))  # [H, B, R, D]
        return states.sum()

    model.heads.loss = loss
    ranks = np.tile(np.array([0.0, 1.0, 2.0], np.float32), (1, 3, 1))  # views mask {0}, {0, 1}, {0, 1, 2}
    for target in (0, 1):
        model(np.array([[2, 0, target]]), np.array([[0, 0, 1.0]], np.float32), ranks)
    a, b = recorded
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    logp = [log_probs(model, [2, 0], codes) for codes in ([5, 1, 2], [5, 3, 2], [5, 5, 2], [0, 5, 2])]
    # Digit 0 sees the code of digit 1, and whether it is masked; and digit 1 sees digit 0.
    assert min(np.abs(logp[0][0] - other[0]).max() for other in logp[1:3]) > 0.01
    assert np.abs(logp[2][1] - logp[3][1]).max() > 0.01


def test_the_history_and_its_order_have_an_effect() -> None:
    model = build()
    masked = [V] * 4
    assert np.abs(log_probs(model, [3, 8], masked) - log_probs(model, [8, 3], masked)).max() > 0.01
    padded = log_probs(model, [-1, 3, 8], masked)
    np.testing.assert_allclose(padded, log_probs(model, [3, 8], masked), atol=1e-4)


@pytest.mark.parametrize("unmask", DiffGRM.orders)
def test_beams_as_wide_as_the_space_are_exhaustive(unmask: str) -> None:
    sids = catalogue(9, 3, 3)
    model, index, users = build(sids, 3), PartialIndex(sids, 3), torch.arange(2)
    history = torch.tensor([[2, 5], [7, 1]])
    for T in (1, 3):
        decoding = Decoding(unmask=unmask, nfe=T, beams=64, seed=1)
        with torch.inference_mode():
            denoiser = model.denoiser(history)
            result = beam_search(denoiser, users, index, decoding)
            if unmask == "confidence":
                best = [
                    paths(partial(log_probs, model, past), unmask, decoding.unmask_schedule(3), None, 3, 3)
                    for past in history.tolist()
                ]
                truth = torch.tensor([[scores[tuple(sid)] for sid in sids.tolist()] for scores in best])
            else:
                truth = score_every_item(denoiser, users, index, decoding)
        scores, items = truth.sort(dim=1, descending=True)
        assert torch.equal(result.items[:, :9, 0], items)
        torch.testing.assert_close(result.scores[:, :9], scores.float(), atol=1e-4, rtol=1e-4)
    # The two users have different random orders, so that a wrong order would be noticed.
    assert len({tuple(order) for order in random_order(users, 3, 1).tolist()}) == 2


def test_long_semantic_ids() -> None:
    sids = np.random.default_rng(1).integers(0, 256, (50, 32))
    model = build(sids, 256, views=4)
    loss = model(*model.make_training_batch(np.array([[3, 4, 5]]), np.random.default_rng(0)))
    assert np.isfinite(loss.item())
    assert model.view_sizes.tolist() == [8, 16, 24, 32]
    logp = log_probs(model, [3, 4], sids[5].tolist()[:31] + [256])
    np.testing.assert_allclose(np.exp(logp).sum(1), 1.0, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"views": 0}, {"decoder_layers": 0}, {"noising": "loud"}, {"label_smoothing": 1.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong)).replace("_", "-")):
        DiffGRMConfig(**wrong)
