"""The shared blocks: layouts, attention, rotary positions, dropout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipelines.models.nn import packing as layouts
from pipelines.models.nn.packing import Layout
from pipelines.models.nn.transformer import Dropout, Encoder, apply_rotary, attention, rotary
from pipelines.models.sid_models.config import MaskGRConfig

SMALL = MaskGRConfig(layers=2, width=16, heads=2, mlp=32, dropout=0.0)


def test_layout_and_back() -> None:
    real = torch.tensor([[False, True, True], [True, True, True]])
    layout = Layout.of(real)
    x = torch.randn(5, 4)
    rows = layout.pad(x)
    assert rows.shape == (2, 3, 4)
    assert (rows[0, 0] == 0).all()
    assert torch.equal(layout.pack(rows), x)
    assert layout.index(torch.tensor([1, 2, 3, 5])).tolist() == [0, 1, 2, 4]
    assert Layout.of(real[1:]).where is None


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_is_the_fused_one(masked: bool) -> None:
    q, k, v = (torch.randn(3, 2, 7, 8) for _ in range(3))
    mask = torch.ones(3, 1, 1, 7, dtype=torch.bool)
    mask[0, ..., :3] = not masked
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    plain = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    torch.testing.assert_close(plain.float(), fused, atol=0.03, rtol=0.03)  # bfloat16 keeps 8 bits


def test_rotary_positions_are_relative() -> None:
    cos, sin = rotary(torch.arange(20), 8, torch.float32)
    q, k = torch.randn(8), torch.randn(8)
    at = [apply_rotary(x.expand(1, 1, 20, 8), cos, sin)[0, 0] for x in (q, k)]
    scores = at[0] @ at[1].T  # [20, 20]
    for distance in (0, 3, 7):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=1e-4)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    encoder = Encoder(SMALL).eval()
    x = torch.randn(4, 16)
    alone = encoder(x, Layout.of(torch.ones(1, 4, dtype=torch.bool)), torch.arange(4))
    real = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    both = encoder(torch.cat((x, torch.randn(6, 16))), Layout.of(real), torch.arange(10))
    torch.testing.assert_close(both[:4], alone, atol=1e-5, rtol=1e-5)


def left_padded(*lengths: int) -> torch.Tensor:
    """Which of the longest row's columns are real, bool [B, L]."""
    return torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]


def test_rows_of_like_length_are_a_group() -> None:
    """A group ends where all that follow are shorter than ALIKE of its longest; it has no column that is padding in all of its rows."""
    layout = Layout.causal(left_padded(10, 8, 6, 6, 2, 0), 1)
    assert [(group.rows, group.length, group.tokens) for group in layout.groups] == [
        (2, 10, 18),
        (2, 6, 12),
        (1, 2, 2),
    ]
    assert layout.groups[1].where is None
    assert layout.groups[1].mask.shape == (1, 1, 6, 6)
    unsorted = Layout.of(left_padded(2, 10))
    assert [(group.rows, group.length, group.tokens) for group in unsorted.groups] == [(2, 10, 12)]


@pytest.mark.parametrize("lengths", [(9, 7, 7, 3, 2, 1), (1, 9, 2), (4, 4), (6, 0), (0,)])
@pytest.mark.parametrize("kind", ["of", "causal", "two_streams"])
@pytest.mark.parametrize("tokens", [1, 2])
def test_groups_change_nothing(
    lengths: tuple[int, ...], kind: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States and gradients are those of all rows padded to the longest."""
    torch.manual_seed(0)
    encoder, real = Encoder(SMALL).eval(), left_padded(*lengths).repeat_interleave(tokens, dim=1)
    count = int(real.sum()) * (2 if kind == "two_streams" else 1)
    x, found = torch.randn(count, 16), []
    for alike in (0.7, 0.0):
        monkeypatch.setattr(layouts, "ALIKE", alike)
        layout = Layout.of(real) if kind == "of" else getattr(Layout, kind)(real, tokens)
        assert alike or len(layout.groups) == 1
        given = x.clone().requires_grad_()
        states = encoder(given, layout, torch.arange(count))
        (states * torch.arange(count)[:, None]).sum().backward()
        found.append((states.detach(), given.grad))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)
    assert found[0][1].isfinite().all()


def test_narrow_blocks_stay_in_float32_on_a_cpu() -> None:
    for width, kept in ((16, True), (128, False)):
        torch.manual_seed(0)
        encoder = Encoder(MaskGRConfig(layers=1, width=width, heads=2, mlp=32, dropout=0.0)).eval()
        given = torch.randn(6, width), Layout.whole(2, 3, torch.device("cpu")), torch.arange(6)
        exact = encoder(*given)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(encoder(*given), exact) == kept


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    dropout, x = Dropout(rate), torch.ones(1001, 999)
    y = dropout(x)
    dropped = (y == 0).float()
    assert abs(dropped.mean() - rate) < 0.002
    assert torch.allclose(y[y > 0], torch.tensor(1 / (1 - rate)))
    for near in (
        dropped[:, 1:] * dropped[:, :-1],
        dropped[:, 4:] * dropped[:, :-4],
    ):  # neighbours are independent
        assert abs(near.mean() - rate**2) < 0.002
    assert dropout.eval()(x) is x
