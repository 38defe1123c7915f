"""DiffGRM: which digits its views mask, what they count, what a digit sees, and its beams against exhaustive scoring."""

from __future__ import annotations

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
    """A model that is far from even between codes."""
    torch.manual_seed(1)
    model = DiffGRM(DiffGRMConfig(**{**SIZES, **sizes}), Catalogue.of(sids, codes)).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and not name.startswith("heads"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_views_are_nested_and_begin_with_the_least_sure() -> None:
    sure = torch.tensor([[-0.1, -2.0, -0.5, -1.0], [-4.0, -3.0, -2.0, -1.0]])
    masked = build().views(sure)
    assert [[set(view.nonzero().flatten().tolist()) for view in example] for example in masked] == [
        [{1}, {1, 3}, {1, 2, 3}, {0, 1, 2, 3}],
        [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}],
    ]
    assert build(views=2).views(sure).sum(2).tolist() == [[2, 4]] * 2
    assert build(views=3).views(sure).sum(2).tolist() == [[2, 3, 4]] * 2
    assert build(views=1).views(sure).sum(2).tolist() == [[4]] * 2
    assert build(views=9).views(sure).sum(2).tolist() == [[1, 2, 3, 4]] * 2


def expected(model: DiffGRM, history: list[int], codes: list[int]) -> np.ndarray:
    """Log-probabilities [H, V] of a partial SID after a history, alone in its batch."""
    with torch.no_grad():
        return model.denoiser(torch.tensor([history]))(torch.tensor([[codes]]))[0, 0].numpy()


@pytest.mark.parametrize(
    ("noising", "views"), [("on-policy", None), ("on-policy", 2), ("on-policy", 1), ("random", None)]
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_over_views_of_means_over_their_digits(
    noising: str, views: int | None, smoothing: float
) -> None:
    model = build(noising=noising, views=views, label_smoothing=smoothing)
    items = np.array([[-1, -1, 3, 8, 1], [5, 9, 28, 2, 2]])
    items, weights, *ranks = model.make_training_batch(items, np.random.default_rng(0))
    assert weights.tolist() == [[0, 0, 0, 0, 1]] * 2
    weights[1] *= 3
    truth = 0.0
    for example, (row, count) in enumerate(zip(items.tolist(), weights[:, -1], strict=True)):
        history, sid = [i for i in row[:-1] if i >= 0], SIDS[row[-1]].tolist()
        sure = expected(model, history, [V] * 4).max(1) if noising == "on-policy" else ranks[0][example, -1]
        order = np.argsort(sure)  # the least sure first
        sizes = {None: (1, 2, 3, 4), 2: (2, 4), 1: (4,)}[views]
        for size in sizes:
            hidden = order[:size]
            logp = expected(model, history, [V if h in hidden else c for h, c in enumerate(sid)])
            losses = [-(1 - smoothing) * logp[h, sid[h]] - smoothing * logp[h].mean() for h in hidden]
            truth += count * np.mean(losses) / len(sizes)
    assert model(items, weights, *ranks).item() == pytest.approx(truth, rel=1e-4)


def test_random_noising_masks_every_digit_first_alike() -> None:
    model = build(noising="random")
    ranks = model.make_training_batch(np.zeros((4000, 2), np.int64), np.random.default_rng(0))[2]
    first = model.views(torch.as_tensor(ranks[:, -1]))[:, 0].float().mean(0)
    assert (first - 0.25).abs().max() < 0.03


def test_a_digit_sees_the_others_and_not_itself() -> None:
    """In training: of two targets that differ in digit 0 alone, masked in a view by itself, and shown in none of the others' views."""
    sids = np.array([[0, 1, 2], [3, 1, 2], [4, 4, 4]])
    model, seen = build(sids), []
    model.heads.loss = lambda states, *_: (
        seen.append(states.unflatten(0, (3, 1, 3))) or states.sum()
    )  # [H, B, R, D]
    ranks = np.tile(np.array([0.0, 1.0, 2.0], np.float32), (1, 3, 1))  # views mask {0}, {0, 1}, {0, 1, 2}
    for target in (0, 1):
        model(np.array([[2, 0, target]]), np.array([[0, 0, 1.0]], np.float32), ranks)
    a, b = seen
    torch.testing.assert_close(
        a, b, atol=1e-5, rtol=1e-5
    )  # digit 0 is masked everywhere: nothing of it is seen
    shown = [expected(model, [2, 0], codes) for codes in ([5, 1, 2], [5, 3, 2], [5, 5, 2], [0, 5, 2])]
    assert (
        min(np.abs(shown[0][0] - other[0]).max() for other in shown[1:3]) > 0.01
    )  # digit 0 sees digit 1, revealed or not
    assert np.abs(shown[2][1] - shown[3][1]).max() > 0.01  # and digit 1 digit 0: both directions


def test_the_history_counts_and_so_does_its_order() -> None:
    model = build()
    nothing = [V] * 4
    assert np.abs(expected(model, [3, 8], nothing) - expected(model, [8, 3], nothing)).max() > 0.01
    padded = expected(model, [-1, 3, 8], nothing)
    np.testing.assert_allclose(padded, expected(model, [3, 8], nothing), atol=1e-4)


def one(model: DiffGRM, history: list[int], codes: tuple[int, ...]) -> np.ndarray:
    """`expected`, as `paths` asks."""
    return expected(model, history, list(codes))


@pytest.mark.parametrize("unmask", DiffGRM.orders)
def test_beams_as_wide_as_the_space_are_exhaustive(unmask: str) -> None:
    sids = catalogue(9, 3, 3)
    model, index, users = build(sids, 3), PartialIndex(sids, 3), torch.arange(2)
    history = torch.tensor([[2, 5], [7, 1]])
    for T in (1, 3):
        decoding = Decoding(unmask=unmask, nfe=T, beams=64, seed=1)
        with torch.inference_mode():
            given = model.denoiser(history)
            found = beam_search(given, users, index, decoding)
            if unmask == "confidence":
                best = [
                    paths(partial(one, model, past), unmask, decoding.unmask_schedule(3), None, 3, 3)
                    for past in history.tolist()
                ]
                truth = torch.tensor([[scores[tuple(sid)] for sid in sids.tolist()] for scores in best])
            else:
                truth = score_every_item(given, users, index, decoding)
        scores, items = truth.sort(dim=1, descending=True)
        assert torch.equal(found.items[:, :9, 0], items)
        torch.testing.assert_close(found.scores[:, :9], scores.float(), atol=1e-4, rtol=1e-4)
    assert (
        len({tuple(order) for order in random_order(users, 3, 1).tolist()}) == 2
    )  # so that a user's own order was taken


def test_long_semantic_ids() -> None:
    sids = np.random.default_rng(1).integers(0, 256, (50, 32))
    model = build(sids, 256, views=4)
    loss = model(*model.make_training_batch(np.array([[3, 4, 5]]), np.random.default_rng(0)))
    assert np.isfinite(loss.item())
    assert model.sizes.tolist() == [8, 16, 24, 32]
    logp = expected(model, [3, 4], sids[5].tolist()[:31] + [256])
    np.testing.assert_allclose(np.exp(logp).sum(1), 1.0, rtol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"views": 0}, {"decoder_layers": 0}, {"noising": "loud"}, {"label_smoothing": 1.0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong)).replace("_", "-")):
        DiffGRMConfig(**wrong)
