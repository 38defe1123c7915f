"""The parts of the transformer blocks: attention, rotary positions, dropout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipelines.models.nn.attention import attention
from pipelines.models.nn.dropout import Dropout
from pipelines.models.nn.rotary import apply_rotary, rotary


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_is_the_fused_attention(masked: bool) -> None:
    q, k, v = (torch.randn(3, 2, 7, 8) for _ in range(3))
    mask = torch.ones(3, 1, 1, 7, dtype=torch.bool)
    mask[0, ..., :3] = not masked
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attention(q, k, v, mask), fused, atol=1e-5, rtol=1e-5)
    plain = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    torch.testing.assert_close(plain.float(), fused, atol=0.03, rtol=0.03)  # bfloat16 keeps 8 bits


def test_rotary_positions_are_relative() -> None:
    cos, sin = rotary(torch.arange(20), 8, torch.float32)
    q, k = torch.randn(8), torch.randn(8)
    rotated = [apply_rotary(x.expand(1, 1, 20, 8), cos, sin)[0, 0] for x in (q, k)]
    scores = rotated[0] @ rotated[1].T  # [20, 20]
    for distance in (0, 3, 7):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    dropout, x = Dropout(rate), torch.ones(1001, 999)
    y = dropout(x)
    dropped = (y == 0).float()
    assert abs(dropped.mean() - rate) < 0.002
    assert torch.allclose(y[y > 0], torch.tensor(1 / (1 - rate)))
    neighbors = (dropped[:, 1:] * dropped[:, :-1], dropped[:, 4:] * dropped[:, :-4])
    for both in neighbors:  # independent draws
        assert abs(both.mean() - rate**2) < 0.002
    assert dropout.eval()(x) is x
