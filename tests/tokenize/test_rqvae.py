"""RQ-VAE: its loss by hand, that it learns, and that its codebooks do not collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.progress import Silent
from pipelines.tokenize import kmeans, rqvae
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.rqvae import COMMITMENT, IDLE, RQVAE, encode, quantize

SMALL = TokenizeConfig(3, 8, "rqvae", steps=150)


def curved(items: int = 400) -> np.ndarray:
    """Vectors on a curved sheet in 12 dimensions, off centre: float32 [items, 12]."""
    rng = np.random.default_rng(0)
    return (np.tanh(rng.normal(size=(items, 2)) @ rng.normal(size=(2, 12)) * 2) + rng.normal(size=12)).astype(
        np.float32
    )


def tiny() -> tuple[RQVAE, torch.Tensor]:
    """A model with codebooks that have learnt nothing, and a batch [6, 4]."""
    torch.manual_seed(0)
    model = RQVAE(4, 2, 5)
    torch.nn.init.normal_(model.codebooks, std=0.3)
    return model, torch.randn(6, 4)


def test_digits_take_the_nearest_code_of_what_is_left() -> None:
    model, vectors = tiny()
    left = []
    with torch.no_grad():
        codes, energies = encode(model, vectors)
        for row, vector in enumerate(vectors):
            residual, chosen = model.encoder(vector), torch.zeros(4)
            left.append([])
            for digit, codebook in enumerate(model.codebooks):
                assert codes[row, digit] == (residual - codebook).norm(dim=1).argmin()
                residual, chosen = (
                    residual - codebook[codes[row, digit]],
                    chosen + codebook[codes[row, digit]],
                )
                left[-1].append(float((vector - model.decoder(chosen)).square().sum()))
    assert energies == pytest.approx(np.sum(left, axis=0), rel=1e-5)


def test_the_loss_and_what_it_moves() -> None:
    model, vectors = tiny()
    loss, codes, residuals = model.loss(vectors)
    loss.backward()
    apart = (residuals[:2] - residuals[1:]).detach()  # the chosen codes
    latent = model.encoder(vectors).detach().requires_grad_()
    distance = (residuals[1:]).square().sum() / 6
    rebuilt = (model.decoder(latent - residuals[2]) - vectors).square().sum() / 6
    assert loss.item() == pytest.approx((rebuilt + (1 + COMMITMENT) * distance).item(), rel=1e-5)
    moved = torch.zeros_like(model.codebooks)
    for digit in range(2):  # a code goes to the residuals that chose it, and nowhere else
        moved[digit].index_add_(0, codes[:, digit], 2 * (apart[digit] - residuals[digit]) / 6)
    assert model.codebooks.grad == pytest.approx(moved, abs=1e-6)
    through = torch.autograd.grad(rebuilt, latent)[0] + COMMITMENT * 2 * residuals[1:].sum(0) / 6
    last = model.encoder[2].weight  # of the layer that makes the latent vectors
    hidden = model.encoder[1](model.encoder[0](vectors))
    assert last.grad == pytest.approx((through.T @ hidden).detach(), abs=1e-5)


def test_each_digit_leaves_less_and_all_of_them_about_what_kmeans_leaves() -> None:
    vectors = curved()
    found = quantize(vectors, SMALL, Silent())
    assert found.codes.shape == (400, 3)
    assert found.relative_error == sorted(found.relative_error, reverse=True)
    assert (
        found.relative_error[-1]
        < 1.2 * kmeans.quantize(vectors, TokenizeConfig(3, 8), Silent()).relative_error[-1]
    )
    assert all(len(np.unique(column)) >= 7 for column in found.codes.T)


def used(monkeypatch: pytest.MonkeyPatch, idle: float) -> list[int]:
    """Codes used in each digit where all codebooks but one code start far from every vector."""

    def far(model: RQVAE, *_: object) -> None:
        model.codebooks.data.fill_(9.0)
        model.codebooks.data[:, 0] = 0.0

    monkeypatch.setattr(rqvae, "_start_codebooks", far)
    monkeypatch.setattr(rqvae, "IDLE", idle)
    return [
        len(np.unique(column))
        for column in quantize(curved(), TokenizeConfig(2, 8, "rqvae", steps=60), Silent()).codes.T
    ]


def test_codes_that_nothing_takes_are_moved_to_where_vectors_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert used(monkeypatch, idle=1e9) == [1, 1]
    assert min(used(monkeypatch, idle=IDLE)) >= 7


def test_seed_decides_and_scale_does_not() -> None:
    vectors, config = curved(100), TokenizeConfig(2, 4, "rqvae", steps=20)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    codes = quantize(vectors, config, Silent()).codes
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(quantize(vectors, config, Silent()).codes, codes)
    assert np.array_equal(
        quantize(1024 * vectors, config, Silent()).codes, codes
    )  # a power of two rounds nothing
    assert not np.array_equal(
        quantize(vectors, TokenizeConfig(2, 4, "rqvae", seed=1, steps=20), Silent()).codes, codes
    )


@pytest.mark.parametrize(
    "vectors", [np.zeros((20, 3)), np.ones((20, 3)), np.eye(2)], ids=["zero", "equal", "two"]
)
def test_vectors_that_hardly_differ(vectors: np.ndarray) -> None:
    found = quantize(vectors.astype(np.float32), TokenizeConfig(2, 4, "rqvae", steps=3), Silent())
    assert np.isfinite(found.relative_error).all()
    assert found.codes.max() < min(4, len(vectors))
