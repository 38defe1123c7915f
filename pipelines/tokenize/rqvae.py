"""RQ-VAE: an autoencoder whose latent vectors are quantised residually (TIGER, arXiv 2305.05065, section 3.1).

Encoder and decoder have one hidden layer and 64-wide latent vectors, where TIGER has three layers and 32, which learn far more
slowly (Beauty, 1,500 steps of 1,024 vectors: 17 % of the energy left with TIGER's widths, 6 % with these, in half the time).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.progress import Progress, Silent
from pipelines.tokenize import kmeans
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization, energy

HIDDEN, LATENT = 512, 64  # widths; the latent vectors are not wider than the vectors
BATCH, RATE = 256, 3e-3  # vectors a step; learning rate, which falls to 0 as a cosine
COMMITMENT = 0.25  # β, TIGER's
WARMUP = 0.1  # share of the steps before anything is quantised
SETTLE = 0.1  # share of the steps, the last, in which no code is moved
IDLE = 50  # a code is moved when none of about 50·V vectors took it
SAMPLE = 256  # codebooks start from so many vectors a code
BLOCK = 1 << 14  # vectors encoded at once


class RQVAE(nn.Module):
    """Vectors [B, D] → latent vectors [B, L] → sums of m codes → vectors [B, D]."""

    def __init__(self, width: int, num_levels: int, codebook: int) -> None:
        super().__init__()
        latent = min(LATENT, width)
        self.encoder = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width))
        self.codebooks = nn.Parameter(torch.zeros(num_levels, codebook, latent))  # [m, V, L]

    def quantise(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors [B, L] → codes int64 [B, m], and what is left before each digit and after the last, [m + 1, B, L]."""
        codes, residuals = [], [latent]
        for codebook in self.codebooks:
            distances = (
                codebook.square().sum(1) - 2 * residuals[-1] @ codebook.T
            )  # [B, V], but for the vectors' own squares
            codes.append(distances.argmin(1))
            residuals.append(residuals[-1] - codebook[codes[-1]])
        return torch.stack(codes, 1), torch.stack(residuals)

    def loss(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """‖x − x̂‖² + Σ_d ‖sg[r_d] − e_d‖² + β ‖r_d − sg[e_d]‖², the mean of a batch.

        Gradients pass straight through the codes to the encoder; the decoder moves no code, nor do other digits.

        Returns:
            the loss; codes [B, m] and residuals [m + 1, B, L] as in `quantise`.
        """
        latent = self.encoder(vectors)
        with torch.no_grad():
            codes, residuals = self.quantise(latent)
        chosen = torch.stack(
            [codebook[code] for codebook, code in zip(self.codebooks, codes.T, strict=True)]
        )  # [m, B, L]
        own = latent - (residuals[0] - residuals[:-1])  # [m, B, L], r_d as functions of the encoder
        quantised = latent - residuals[-1]  # the sum of the codes
        parts = (
            (self.decoder(quantised), vectors, 1.0),
            (chosen, residuals[:-1], 1.0),
            (own, chosen.detach(), COMMITMENT),
        )
        return (
            sum(weight * F.mse_loss(a, b, reduction="sum") for a, b, weight in parts) / len(vectors),
            codes,
            residuals,
        )


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Train the autoencoder on the vectors, float32 [N, D], and give each the codes of its latent vector.

    `error` is what the decoder leaves of the vectors, given the sum of the first codes. On a CPU the same seed gives
    the same codes for the same number of threads.
    """
    mean = vectors.mean(0)
    scale = max(math.sqrt(energy(vectors - mean) / len(vectors)), np.finfo(np.float32).tiny)
    scaled = torch.from_numpy((vectors - mean) / scale)  # mean square length 1, for which RATE is meant
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RQVAE(vectors.shape[1], config.num_levels, min(config.codebook, len(vectors)))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    train(model, scaled, config, progress)
    codes, left = encode(model, scaled)
    return Quantization(codes, (left * scale**2 / max(energy(vectors), np.finfo(np.float64).tiny)).tolist())


def train(model: RQVAE, vectors: Tensor, config: TokenizeConfig, progress: Progress) -> None:
    """Train on vectors [N, D] drawn evenly: first without codes, then from codebooks that k-means starts.

    A codebook collapses where codes that no vector is near are never moved. Those of a digit that have not been taken
    for a while are put on residuals of the batch, drawn evenly (as Dhariwal et al. 2020, arXiv 2005.00341, do).
    """
    device, rng = model.codebooks.device, np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    taken = torch.zeros(model.codebooks.shape[:2], dtype=torch.bool, device=device)  # [m, V]
    start, settled = int(WARMUP * config.steps), (1 - SETTLE) * config.steps
    every = math.ceil(IDLE * taken.shape[1] / BATCH)
    with progress.task("RQ-VAE", total=config.steps, unit="steps") as task:
        for step in range(config.steps):
            batch = vectors[rng.integers(len(vectors), size=BATCH)].to(device)
            if step == start:
                _start_codebooks(
                    model, vectors[rng.permutation(len(vectors))[: SAMPLE * taken.shape[1]]], config
                )
            if step < start:
                loss = F.mse_loss(model.decoder(model.encoder(batch)), batch, reduction="sum") / BATCH
            else:
                loss, codes, residuals = model.loss(batch)
                taken.scatter_(1, codes.T, True)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if start <= step < settled and (step + 1 - start) % every == 0:
                _move_idle(model.codebooks.data, taken, residuals, rng)
                taken.zero_()
            if (step + 1) % 50 == 0:
                task.update(step + 1, f"loss {loss.item():.3f}")


@torch.no_grad()
def encode(model: RQVAE, vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Codes int64 [N, m] of vectors [N, D], and the energy that the decoder leaves given the first 1…m of them, [m]."""
    found, left = [], 0.0
    for block in vectors.split(BLOCK):
        block = block.to(model.codebooks.device)
        codes, residuals = model.quantise(model.encoder(block))
        rebuilt = model.decoder(residuals[0] - residuals[1:])  # [m, B, D]
        left = left + (rebuilt - block).double().square().sum((1, 2)).cpu()
        found.append(codes.cpu())
    return torch.cat(found).numpy(), left.numpy()


@torch.no_grad()
def _start_codebooks(model: RQVAE, vectors: Tensor, config: TokenizeConfig) -> None:
    """Residual k-means of the latent vectors of some vectors [N, D], at least one a code."""
    latent = torch.cat([model.encoder(block.to(model.codebooks.device)) for block in vectors.split(BLOCK)])
    centroids = kmeans.quantize(latent.cpu().numpy(), config, Silent()).centroids
    model.codebooks.copy_(torch.from_numpy(np.stack(centroids)))


def _move_idle(codebooks: Tensor, taken: Tensor, residuals: Tensor, rng: np.random.Generator) -> None:
    """Put the codes [m, V, L] that are not `taken` [m, V] on residuals [m + 1, B, L] of their digit."""
    for codebook, used, residual in zip(codebooks, taken, residuals, strict=False):
        idle = (~used).nonzero().squeeze(1)
        codebook[idle] = residual[rng.integers(len(residual), size=len(idle))]
