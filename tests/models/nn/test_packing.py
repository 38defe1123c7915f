"""Packing: padded rows and packed tokens, and the attention masks of all layouts against brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipelines.models.nn import packing
from pipelines.models.nn.packing import Layout
from pipelines.models.nn.transformer import Encoder
from pipelines.models.sid_models.config import MaskGRConfig

SMALL = MaskGRConfig(layers=2, width=16, heads=2, mlp=32, dropout=0.0)
KINDS = ("bidirectional", "causal", "two_streams")


def left_padded(*lengths: int) -> Tensor:
    """Return the padding mask, bool [B, L], of left-padded rows."""
    return torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]


def build(kind: str, real: Tensor, tokens_per_item: int = 1) -> Layout:
    if kind == "bidirectional":
        return Layout.bidirectional(real)
    return getattr(Layout, kind)(real, tokens_per_item)


def test_pack_and_pad() -> None:
    real = torch.tensor([[False, True, True], [True, True, True]])
    layout = Layout.bidirectional(real)
    rows = torch.arange(12.0).view(2, 3, 2)
    packed = layout.pack(rows)
    assert packed.tolist() == [[2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert layout.pad(packed).tolist() == [[[0, 0], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]
    assert layout.position.tolist() == [1, 2, 0, 1, 2]
    assert layout.index(torch.tensor([1, 2, 3, 5])).tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("lengths", [(3, 5, 1), (4, 4), (2, 0), (0,)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_pad_and_pack_are_inverse(lengths: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """`pack` undoes `pad`; `pad` undoes `pack` up to zeros at padding."""
    real = left_padded(*lengths)
    layout = Layout.bidirectional(real)
    packed = torch.randn(int(real.sum()), *shape)
    assert torch.equal(layout.pack(layout.pad(packed)), packed)
    rows = torch.randn(*real.shape, *shape)
    rows[~real] = 0
    assert torch.equal(layout.pad(layout.pack(rows)), rows)


def test_rows_without_padding_need_no_indices() -> None:
    real = torch.ones(2, 3, dtype=torch.bool)
    for layout in (Layout.bidirectional(real), Layout.unpadded(2, 3, torch.device("cpu"))):
        assert layout.indices is None
        assert layout.real is None
        assert layout.position.tolist() == [0, 1, 2, 0, 1, 2]
        (group,) = layout.groups
        assert (group.rows, group.length, group.tokens, group.mask) == (2, 3, 6, None)
        index = torch.tensor([1, 4])
        assert layout.index(index) is index


def sees_bidirectional(query: int, key: int, length: int, tokens_per_item: int) -> bool:
    return True


def sees_causal(query: int, key: int, length: int, tokens_per_item: int) -> bool:
    return key // tokens_per_item <= query // tokens_per_item


def sees_two_streams(query: int, key: int, length: int, tokens_per_item: int) -> bool:
    item, other = query % length // tokens_per_item, key % length // tokens_per_item
    clean_key, same_stream = key < length, (query < length) == (key < length)
    return (clean_key and other < item) or (same_stream and other == item)


@pytest.mark.parametrize("tokens_per_item", [1, 2])
@pytest.mark.parametrize("lengths", [(2, 3), (3, 3), (3, 1, 1)])
@pytest.mark.parametrize(
    ("kind", "sees"),
    list(zip(KINDS, (sees_bidirectional, sees_causal, sees_two_streams), strict=True)),
)
def test_a_mask_is_its_definition(
    kind: str, sees: Callable[[int, int, int, int], bool], lengths: tuple[int, ...], tokens_per_item: int
) -> None:
    """Each pair of real tokens against the definition; no real token sees padding."""
    real = left_padded(*lengths).repeat_interleave(tokens_per_item, dim=1)
    L = real.shape[1]
    layout = build(kind, real, tokens_per_item)
    streams = 2 if kind == "two_streams" else 1
    all_real = real.repeat(1, streams)  # [B, streams · L]
    assert layout.position.tolist() == [
        column % L for row in all_real for column in range(len(row)) if row[column]
    ]
    first = 0  # row of the batch
    for group in layout.groups:
        rows = all_real[first : first + group.rows]
        columns = [c for c in range(rows.shape[1]) if rows[:, c].any()]
        assert group.length == len(columns)
        shape = (group.rows, 1, group.length, group.length)
        mask = torch.ones(shape) if group.mask is None else group.mask.expand(shape)
        for row in range(group.rows):
            for i, query in enumerate(columns):
                for j, key in enumerate(columns):
                    if rows[row, query]:
                        expected = bool(rows[row, key]) and sees(query, key, L, tokens_per_item)
                        assert bool(mask[row, 0, i, j]) == expected
        first += group.rows


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_sees_a_token(kind: str) -> None:
    """A row of the softmax without a key would be NaN; padding tokens see at least themselves."""
    for group in build(kind, left_padded(4, 4, 1, 0), 2).groups:
        assert group.mask is None or group.mask.any(3).all()


def test_rows_of_similar_length_form_a_group() -> None:
    """A group ends where all later rows are shorter than `MIN_LENGTH_RATIO` times its longest row."""
    layout = Layout.causal(left_padded(10, 8, 6, 6, 2, 0), 1)
    sizes = [(group.rows, group.length, group.tokens) for group in layout.groups]
    assert sizes == [(2, 10, 18), (2, 6, 12), (1, 2, 2)]
    assert layout.groups[1].indices is None
    assert layout.groups[1].mask is not None
    assert layout.groups[1].mask.shape == (1, 1, 6, 6)
    unsorted = Layout.bidirectional(left_padded(2, 10))
    assert [(group.rows, group.length, group.tokens) for group in unsorted.groups] == [(2, 10, 12)]


@pytest.mark.parametrize("lengths", [(9, 7, 7, 3, 2, 1), (1, 9, 2), (4, 4), (6, 0), (0,)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens_per_item", [1, 2])
def test_groups_change_nothing(
    lengths: tuple[int, ...], kind: str, tokens_per_item: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden states and gradients are those of one group, in which all rows are padded to the longest."""
    torch.manual_seed(0)
    encoder = Encoder(SMALL).eval()
    real = left_padded(*lengths).repeat_interleave(tokens_per_item, dim=1)
    count = int(real.sum()) * (2 if kind == "two_streams" else 1)
    x, results = torch.randn(count, 16), []
    for ratio in (0.7, 0.0):
        monkeypatch.setattr(packing, "MIN_LENGTH_RATIO", ratio)
        layout = build(kind, real, tokens_per_item)
        assert ratio or len(layout.groups) == 1
        leaf = x.clone().requires_grad_()
        states = encoder(leaf, layout, torch.arange(count))
        (states * torch.arange(count)[:, None]).sum().backward()
        results.append((states.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
