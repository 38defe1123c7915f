"""Tests that every model must pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.data.groups import Groups
from pipelines.data.sequences import Sequences
from pipelines.data.splits import Split
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.metrics import rank_targets
from pipelines.evaluate.recommend import Recommendations, recommend
from pipelines.models import loading
from pipelines.models.base import CountedModel, DigitModel, Recommender
from pipelines.models.registry import MODELS, model_config
from pipelines.processes import Processes
from tests.conftest import ListProgress

N, H, V = 30, 3, 8
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)
TEXT = np.random.default_rng(1).normal(size=(N, 6)).astype(np.float32)
TINY = {"layers": 1, "width": 32, "heads": 2, "mlp": 64, "dropout": 0.0, "max_items": 6}
OWN = {
    "maskgr": {"tokens": "item", "next_item": 0.8}
}  # needs fewer steps than the model of the paper, which tests/train trains
STEPS = 120  # enough for every model to learn the next item
CATALOGUE = Catalogue.of(SIDS, V, TEXT)


def build(name: str, seed: int = 0, catalogue: Catalogue = CATALOGUE, **settings: object) -> Recommender:
    """Return a small model in evaluation mode."""
    torch.manual_seed(seed)
    model = loading.build(model_config(name, {**TINY, **OWN.get(name, {}), **settings}), catalogue).eval()
    if isinstance(model, CountedModel):
        model.count(random_sequences(seed, model.items), Processes())
    return model


def random_sequences(seed: int, items: int) -> Groups:
    """Return random sequences, for models that are counted."""
    rng = np.random.default_rng(seed)
    return Groups.of(
        Sequences(rng.integers(0, items, 2000).astype(np.int32), np.arange(0, 2001, 10)), np.array([120, 80])
    )


def split(histories: list[list[int]], targets: list[int]) -> Split:
    """Return a split with one user for each history and its target."""
    offsets = np.cumsum([0, *map(len, histories)])
    items = np.concatenate(histories).astype(np.int32)
    return Split(
        items, offsets, np.arange(len(histories), dtype=np.int32), np.array(targets, np.int32)[:, None]
    )


def search(model: Recommender, users: Split, sids: np.ndarray = SIDS, **decoding: object) -> Recommendations:
    """Return the recommendations of a model, by default of 5 beams."""
    index = PartialIndex(sids, V) if isinstance(model, DigitModel) else None
    resolved = resolve_decoding(Decoding(**{"beams": 5, "nfe": model.validation_nfe, **decoding}), model)
    return recommend(model, users, index, resolved, ListProgress())


LEARNED = [name for name, config in MODELS.items() if not config.is_counted]


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=LEARNED)
def learned(request: pytest.FixtureRequest) -> str:
    """Name of a model that learns by steps."""
    return request.param


def test_it_learns_what_comes_next(name: str) -> None:
    """Item i + 1 follows item i. After seconds of training it is nearly always among the first five of thirty
    items, and mostly the first.
    """
    model, rng = build(name), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        starts = rng.integers(0, N, 32)
        items = ((starts[:, None] + np.arange(model.config.window)) % N).astype(np.int32)
        if isinstance(model, CountedModel):
            rows = Sequences(items.ravel(), np.arange(33) * model.config.window)
            model.count(Groups.of(rows, np.array([32])), Processes())
            break
        items[::2, :-4] = -1
        drawn = model.make_training_batch(items, rng)
        loss = model.train()(*drawn) / float(drawn[1].sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    histories = [[(end - 2) % N, (end - 1) % N, end] for end in range(N)]
    result = search(model, split(histories, [(end + 1) % N for end in range(N)]))
    ranks = rank_targets(result.items, np.array([[(end + 1) % N] for end in range(N)]))
    assert (ranks > 0).mean() > 0.9
    assert (ranks == 1).mean() > 0.5


def test_a_batch_is_its_members(name: str) -> None:
    model = build(name)
    histories = [[3, 7, 1, 4], [5, 2, 9, 4], [8], [20, 21]]
    together = search(model, split(histories, [0] * 4))
    for row in range(4):
        users = split(histories[row : row + 1], [0])
        alone = search(model, Split(users.items, users.offsets, np.array([row], np.int32), users.targets))
        np.testing.assert_array_equal(alone.items[0], together.items[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-5)


def test_scores_are_float32_in_any_precision(name: str) -> None:
    """Many bfloat16 scores would tie. On a CPU narrow blocks multiply in float32, so that most models give
    the same scores in both precisions.
    """
    model, users = build(name), split([[3, 7, 1, 4], [8]], [0, 0])
    whole = search(model, users, beams=N)
    with torch.autocast("cpu", torch.bfloat16):
        result = search(model.train().eval(), users, beams=N)
    assert result.scores.dtype == np.float32
    for scores in result.scores:
        real = scores[np.isfinite(scores)]
        assert len(set(real.tolist())) == len(real) > 0
    if name not in ("liger", "dreamrec"):  # their text heads and denoiser multiply in bfloat16
        np.testing.assert_array_equal(result.items, whole.items)
        np.testing.assert_array_equal(result.scores, whole.scores)


def test_items_are_numbers_without_meaning(name: str) -> None:
    """Items in another order, item 0 among them, give the same losses and the same recommendations."""
    order = np.random.default_rng(4).permutation(N)  # new number → old number
    new_number = np.argsort(order)
    model, other = build(name), build(name, catalogue=Catalogue.of(SIDS[order], V, TEXT[order]))
    if isinstance(other, CountedModel):
        renumbered = random_sequences(0, N).mapped(
            lambda _, part: Sequences(new_number[part.items], part.offsets)
        )
        other.count(renumbered, Processes())
    else:
        check_losses(model, other, order)
    histories = [[3, order[0], 7], [order[0]], [5, 2, 9, order[0]]]
    result = search(model, split(histories, [0] * 3))
    renumbered = search(
        other, split([new_number[history].tolist() for history in histories], [0] * 3), SIDS[order]
    )
    np.testing.assert_array_equal(np.where(renumbered.items >= 0, order[renumbered.items], -1), result.items)
    np.testing.assert_allclose(renumbered.scores, result.scores, rtol=1e-4, atol=1e-5)


def check_losses(model: Recommender, other: Recommender, order: np.ndarray) -> None:
    """Check that a model with the weights of another one, in another order of the items, has its losses.

    Args:
        order: old number of each item, int64 [N].
    """
    new_number = np.argsort(order)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for tensor in weights.values():
        if tensor.dim() and N <= len(tensor) <= N + 1:  # a row for each item, and perhaps one for MASK
            tensor[:N] = tensor[:N][order]
    other.load_state_dict(weights)
    rows = np.array(
        [[-1, order[0], 3, 7, 2, 9, 11], [-1, -1, -1, 4, 6, order[0], 8], [order[0], 5, 12, 1, 13, 14, 15]],
        np.int32,
    )
    losses = []
    for each, items in ((model, rows), (other, np.where(rows >= 0, new_number[rows], -1).astype(np.int32))):
        drawn = each.make_training_batch(items, np.random.default_rng(1))
        torch.manual_seed(0)
        losses.append(each(*drawn, *([np.arange(3)[:, None]] if each.uses_user_ids else [])).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(("D", "M"), [(32, 64), (64, 96)])
def test_it_has_the_parameters_of_its_parts(D: int, M: int) -> None:
    """The number of parameters counted by hand, with width D and MLP width M. A matrix, a bias or a norm more
    or less is another model than the published one.
    """
    C, E = H * V, TEXT.shape[1]
    norm, step, block, cross = 2 * D, D * D + D, 4 * D * D + 2 * D * M + M + D + 4 * D, 4 * D * D + 2 * D
    encoder, decoder = block + norm, block + cross + norm
    sasrec, tiger = N * D + encoder, (C + 2) * D + encoder + decoder + C * D
    expected = {
        "maskgr": (C + H + 1) * D + encoder + C * D,
        "sasrec": sasrec,
        "bsarec": sasrec + TINY["max_items"] * D + D,  # positions, β
        "bert4rec": sasrec + D,  # MASK
        "maskgr-items": sasrec + D,
        "tiger": tiger,
        "liger": tiger + E * H * D + norm + D * E + 1,
        "dreamrec": sasrec
        + D  # the embedding of no history
        + step
        + (3 * D * M + M)  # first layer of the MLP
        + (M * D + D),  # second layer of the MLP
        "cadirec": sasrec + encoder + step,
        "rpg": C * D + H * D * D + encoder,
        "cooccurrence": N,  # interactions; what is counted of pairs grows with the data
        "diffgrm": (C + H) * D + 2 * H * D + encoder + 4 * (block + cross) + norm + C * D,
    }
    assert {
        name: sum(p.numel() for p in build(name, width=D, mlp=M).parameters()) for name in MODELS
    } == expected


def test_no_item_is_found_twice(name: str) -> None:
    result = search(build(name), split([[3, 7], [5, 2, 9, 4]], [0, 0]), beams=N)
    for row in result.items[:, :, 0]:
        real = row[row >= 0]
        assert len(set(real.tolist())) == len(real)


def test_save_and_load_change_nothing(name: str, tmp_path: Path) -> None:
    model, other = build(name), build(name, seed=9)
    users = split([[4], [8, 1]], [0, 0])
    loading.save(model, tmp_path / "model.safetensors")
    assert not np.array_equal(search(model, users).scores, search(other, users).scores)
    loading.load(other, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(search(other, users).items, search(model, users).items)
    np.testing.assert_array_equal(search(other, users).scores, search(model, users).scores)


def test_padding_changes_no_loss(learned: str) -> None:
    """The rows of a step may be cut into forward passes of any length."""
    model = build(learned)
    rows = np.array([[-1, -1, 3, 7, 2], [-1, -1, -1, 4, 9]], np.int32)
    drawn = model.make_training_batch(rows, np.random.default_rng(1))
    torch.manual_seed(0)
    wide = model(*drawn)
    torch.manual_seed(0)
    narrow = model(*(array[:, 2:] for array in drawn))
    torch.testing.assert_close(narrow, wide, rtol=1e-4, atol=1e-5)


def test_a_training_step_asks_its_device_for_nothing(learned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A meta tensor has no values, so that reading one fails: all shapes come from the host, forward and
    backward.
    """
    # PyTorch does not know autocast for the device "meta".
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    model = build(learned, dropout=0.1)
    drawn = model.make_training_batch(
        np.array([[-1, -1, 3, 7], [5, 2, 9, 4]], np.int32), np.random.default_rng(1)
    )
    loss = model.to("meta").train()(*drawn)
    loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None for p in model.parameters())
