"""The shared transformer: padding, single layers, precision, and the KV cache against a full pass."""

from __future__ import annotations

import pytest
import torch

from pipelines.models.nn.packing import Layout
from pipelines.models.nn.transformer import Encoder
from pipelines.models.sid_models.config import MaskGRConfig

SMALL = MaskGRConfig(layers=2, width=16, heads=2, mlp=32, dropout=0.0)
EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(SMALL).eval()


def test_padding_changes_nothing(encoder: Encoder) -> None:
    x = torch.randn(4, 16)
    alone = encoder(x, Layout.bidirectional(torch.ones(1, 4, dtype=torch.bool)), torch.arange(4))
    real = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    both = encoder(torch.cat((x, torch.randn(6, 16))), Layout.bidirectional(real), torch.arange(10))
    torch.testing.assert_close(both[:4], alone, **EXACT)


@pytest.mark.parametrize("layers", [1, 2])
def test_layers_run_apart_are_one_pass(encoder: Encoder, layers: int) -> None:
    x, keep = torch.randn(6, 16), torch.tensor([1, 5])
    layout = Layout.unpadded(2, 3, torch.device("cpu"))
    begun = encoder.run_layers(x, layout, layers)
    torch.testing.assert_close(encoder(begun, layout, keep, layers), encoder(x, layout, keep), **EXACT)


@pytest.mark.parametrize("padded", [False, True])
def test_new_tokens_of_beams_are_a_longer_sequence(encoder: Encoder, padded: bool) -> None:
    """K beams with a shared KV cache, against each beam in its own row without one; items of two tokens."""
    K, P = 3, 2
    real = torch.tensor([[not padded] * P + [True] * P, [True] * 2 * P])
    history, new = torch.randn(2, 2 * P, 16), torch.randn(2, K, P, 16)
    layout = Layout.causal(real, P)
    cache = encoder.prefill(layout.pack(history), layout, torch.zeros(2, 1, 16))
    assert cache.length == 2 * P
    states, _ = encoder.decode_beams(new, cache)
    longer = Layout.causal(torch.cat((real, torch.ones(2, P, dtype=torch.bool)), dim=1), P)
    for beam in range(K):
        x = longer.pack(torch.cat((history, new[:, beam]), dim=1))  # [M, D]
        expected = longer.pad(encoder(x, longer, torch.arange(len(x))))[:, -P:]
        torch.testing.assert_close(states[:, beam], expected, **EXACT)


@pytest.mark.parametrize("padded", [False, True])
def test_an_extended_cache_is_that_of_the_longer_history(encoder: Encoder, padded: bool) -> None:
    real = torch.tensor([[not padded, True, True, True], [True] * 4])
    history, last = torch.randn(2, 4, 16), torch.randn(2, 1, 16)
    layout, shorter = Layout.causal(real, 1), Layout.causal(real[:, :3], 1)
    expected = encoder.prefill(layout.pack(history), layout, last)
    cache = encoder.prefill(shorter.pack(history[:, :3]), shorter, torch.zeros(2, 1, 16))
    _, keys_values = encoder.decode_beams(history[:, None, 3:], cache)
    extended = cache.extended(keys_values, last)
    assert extended.length == expected.length == 4
    assert torch.equal(extended.last, last)
    if padded:
        assert extended.real is not None
        assert torch.equal(extended.real, real)
    new, visible = torch.randn(2, 5, 1, 16), real[:, None, :, None]
    torch.testing.assert_close(
        encoder.decode_beams(new, extended)[0], encoder.decode_beams(new, expected)[0], **EXACT
    )
    for pair, expected_pair in zip(extended.keys_values, expected.keys_values, strict=True):
        for part, expected_part in zip(pair, expected_pair, strict=True):
            torch.testing.assert_close(part * visible, expected_part * visible, **EXACT)


def test_narrow_blocks_stay_in_float32_on_a_cpu() -> None:
    for width, same in ((16, True), (128, False)):
        torch.manual_seed(0)
        encoder = Encoder(MaskGRConfig(layers=1, width=width, heads=2, mlp=32, dropout=0.0)).eval()
        arguments = torch.randn(6, width), Layout.unpadded(2, 3, torch.device("cpu")), torch.arange(6)
        exact = encoder(*arguments)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(encoder(*arguments), exact) == same
