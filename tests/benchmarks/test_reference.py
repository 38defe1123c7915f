"""Tests of `benchmarks.reference`: a comparison of speed is fair only if its results are correct."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from benchmarks.reference import ReferenceModel, next_digit, reference_beam_search, reference_training_step


def tiny(digits: int = 2, codes: int = 4, items: int = 4, **sizes: int) -> ReferenceModel:
    torch.manual_seed(0)
    model = ReferenceModel(
        digits=digits, codes=codes, items=items, **{"width": 16, "layers": 2, "heads": 2, "mlp": 32, **sizes}
    )
    torch.nn.init.normal_(model.embedding.weight)  # far from uniform, so that the orders differ
    torch.nn.init.normal_(model.head.weight)
    return model.eval()


def log_probability(
    model: ReferenceModel, history: list[list[int]], partial: list[int], digit: int, code: int
) -> float:
    """Return log p(digit = code | history, partial) from one sequence without padding."""
    token = [
        [h * model.codes + c if c >= 0 else model.mask_token for h, c in enumerate(item)]
        for item in [*history, partial]
    ]
    with torch.no_grad():
        logits = model(torch.tensor(token).reshape(1, -1))[0, len(history) * model.digits + digit]
    return float(logits.log_softmax(0)[digit * model.codes + code])


def exhaustive(model: ReferenceModel, history: list[list[int]], order: str) -> dict[tuple[int, ...], float]:
    """Return the score of every item, with its digits unmasked one by one in an order."""
    scores = {}
    for item in itertools.product(range(model.codes), repeat=model.digits):
        partial, total = [-1] * model.digits, 0.0
        while -1 in partial:
            masked = [h for h, c in enumerate(partial) if c < 0]
            table = {
                h: sorted(
                    torch.tensor(
                        [log_probability(model, history, partial, h, c) for c in range(model.codes)]
                    ).exp()
                )
                for h in masked
            }
            digit = (
                masked[0]
                if order == "left-to-right"
                else max(masked, key=lambda h: float(table[h][-1] - table[h][-2]))
            )
            total += log_probability(model, history, partial, digit, item[digit])
            partial[digit] = item[digit]
        scores[item] = total
    return scores


@pytest.mark.parametrize("order", ["left-to-right", "greedy"])
@pytest.mark.parametrize(("digits", "codes"), [(2, 4), (3, 3)])
def test_a_beam_as_wide_as_the_catalogue_is_exhaustive(order: str, digits: int, codes: int) -> None:
    model = tiny(digits, codes)
    histories = [[[1] * digits, [0] * digits], [[2, 0, 1][:digits]]]
    batch = torch.full((2, 2, digits), -1)
    batch[0], batch[1, 0] = torch.tensor(histories[0]), torch.tensor(histories[1][0])
    codes_found, scores = reference_beam_search(model, batch, beams=codes**digits, order=order)
    for user, history in enumerate(histories):
        expected = exhaustive(model, history, order)
        assert [tuple(item) for item in codes_found[user].tolist()] == sorted(
            expected, key=expected.get, reverse=True
        )
        assert scores[user].tolist() == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-4)


def test_one_forward_pass_per_beam_over_padded_sequences() -> None:
    model = tiny(digits=3, codes=8, items=5)
    shapes = []
    model.register_forward_hook(
        lambda _, arguments, logits: shapes.append((*arguments[0].shape, logits.shape[-1]))
    )
    codes, scores = reference_beam_search(model, torch.zeros(2, 1, 3, dtype=torch.long), beams=4)
    assert shapes == [(2, 15, 26)] * (1 + 2 * 4)
    assert codes.shape == (2, 4, 3)
    assert scores.shape == (2, 4)


def test_histories_keep_their_most_recent_items() -> None:
    model = tiny()
    long = torch.randint(4, (1, 9, 2))
    assert torch.equal(
        reference_beam_search(model, long, 4)[0], reference_beam_search(model, long[:, -3:], 4)[0]
    )
    padded = functional.pad(long, (0, 0, 0, 4), value=-1)
    assert torch.equal(model.padded(padded, 3), long[:, -3:])


def test_greedy_unmasks_the_masked_digit_with_the_widest_margin() -> None:
    probabilities = torch.tensor([[[0.5, 0.4, 0.1], [0.6, 0.2, 0.2], [0.9, 0.1, 0.0]]])
    assert next_digit(probabilities.log(), torch.tensor([[-1, -1, -1]]), "greedy").tolist() == [2]
    assert next_digit(probabilities.log(), torch.tensor([[-1, -1, 0]]), "greedy").tolist() == [1]
    assert next_digit(probabilities.log(), torch.tensor([[-1, -1, 0]]), "left-to-right").tolist() == [0]


def test_the_plain_attention_equals_the_fused_one() -> None:
    attention = tiny(width=16).blocks[0].attention
    x, mask = torch.randn(2, 8, 16), torch.zeros(2, 1, 1, 8)
    mask[1, :, :, 5:] = torch.finfo(torch.float32).min
    q, k, v = attention.qkv(x).view(2, 8, 3, 2, 8).permute(2, 0, 3, 1, 4)
    fused = functional.scaled_dot_product_attention(
        attention.rotate(q), attention.rotate(k), v, attn_mask=mask
    )
    assert torch.allclose(
        attention(x, mask), attention.out(fused.transpose(1, 2).reshape(2, 8, 16)), atol=1e-6
    )


def test_the_loss_starts_uniform_and_training_learns_a_constant_item() -> None:
    torch.manual_seed(0)
    model = ReferenceModel(digits=2, codes=4, items=4, width=16, layers=1, heads=2, mlp=32)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    sids = torch.tensor([[[1, 3], [1, 3], [-1, -1]]]).repeat(32, 1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = [reference_training_step(model, optimizer, sids) for _ in range(60)]
    assert losses[0] == pytest.approx(
        torch.tensor(10.0).log().item(), abs=1e-4
    )  # H·V + 2 = 10 equally likely tokens
    assert (
        sum(losses[-10:]) / 10 < 0.5
    )  # not zero: with all tokens masked, relative positions do not distinguish the digits
    assert reference_beam_search(model, sids[:1, :1], beams=1)[0].tolist() == [[[1, 3]]]


def test_the_sizes_of_the_paper() -> None:
    model = ReferenceModel()
    assert model.embedding.num_embeddings == model.head.out_features == 1282
    assert model.items * model.digits == 120
    assert len(model.blocks) == 8
    assert model.blocks[0].mlp[0].out_features == 3072
