"""The decoder: cross-attention against its formula, and one token at a time against one pass."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipelines.models.nn.decoder import Decoder, Memory
from pipelines.models.nn.packing import Layout
from pipelines.models.sid_models.config import TIGERConfig

D = 16
EXACT = {"atol": 2e-6, "rtol": 1e-5}
REAL = torch.tensor([[False, True, True, True], [True] * 4])


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(TIGERConfig(layers=2, width=D, heads=2, mlp=32, dropout=0.0)).eval()


def memory_of(decoder: Decoder, states: torch.Tensor) -> Memory:
    return decoder.prefill(states, Layout.bidirectional(REAL))


def test_cross_attention_is_its_formula(decoder: Decoder) -> None:
    """x + W softmax(q k / √d) v over the real states of the row's history."""
    block, x, states = decoder.blocks[0], torch.randn(2, 3, D), torch.randn(7, D)
    layout = Layout.bidirectional(REAL)
    y = block.cross_attend(x, block.memory_kv(states, layout), REAL[:, None, None, :])
    for row, history in enumerate((states[:3], states[3:])):
        normed = F.layer_norm(x[row], (D,), block.cross_norm.weight, block.cross_norm.bias)
        q = normed @ block.cross_q.weight.T
        k, v = (history @ block.cross_kv.weight.T).chunk(2, dim=1)
        heads = [
            (q[:, head] @ k[:, head].T / 8**0.5).softmax(1) @ v[:, head]
            for head in (slice(0, 8), slice(8, 16))
        ]
        expected = x[row] + torch.cat(heads, dim=1) @ block.cross_out.weight.T
        torch.testing.assert_close(y[row], expected, **EXACT)


def test_decode_steps_are_one_pass(decoder: Decoder) -> None:
    """K beams, token after token with a KV cache, against each beam's tokens in one pass."""
    K, S = 3, 4
    memory, x = memory_of(decoder, torch.randn(7, D)), torch.randn(2, K, S, D)
    cache = memory.empty_cache(2 * K)
    stepwise = []
    for token in range(S):
        states, cache = decoder.decode_step(x[:, :, token], memory, cache)
        stepwise.append(states)
    assert cache[0][0].shape == (2 * K, 2, S, D // 2)
    for beam in range(K):
        expected = decoder(x[:, beam], memory)  # [B, S, D]
        torch.testing.assert_close(torch.stack(stepwise, dim=2)[:, beam], expected, **EXACT)


def test_a_token_sees_the_tokens_before_it_and_the_real_history(decoder: Decoder) -> None:
    x, states = torch.randn(2, 3, D), torch.randn(7, D)
    base = decoder(x, memory_of(decoder, states))
    for token in range(3):
        changed = x.clone()
        changed[:, token] = torch.randn(2, D)
        moved = (decoder(changed, memory_of(decoder, states)) - base).abs().amax((0, 2)) > 1e-5
        assert moved.tolist() == [later >= token for later in range(3)]
    for place in range(7):  # the first three states belong to the first history
        changed = states.clone()
        changed[place] = torch.randn(D)
        moved = (decoder(x, memory_of(decoder, changed)) - base).abs().amax((1, 2)) > 1e-5
        assert moved.tolist() == [place < 3, place >= 3]
