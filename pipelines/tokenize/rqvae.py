"""RQ-VAE: an autoencoder whose latent vectors are quantized residually.

Source: TIGER, arXiv 2305.05065, section 3.1. Encoder and decoder have one hidden layer, and latent vectors
have width 64. TIGER has three layers and width 32, which learn far more slowly (Beauty, 1,500 steps of 1,024
vectors: relative quantization error of 17 % with TIGER's widths and 6 % with these, in half the time).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.progress import Progress, Silent
from pipelines.tokenize import kmeans
from pipelines.tokenize.codebooks import Codebooks
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.quantization import Quantization, require_option, sum_of_squares

HIDDEN, LATENT = 512, 64  # widths; the latent vectors are at most as wide as the vectors
BATCH, RATE = 256, 3e-3  # vectors per step; learning rate, which falls to 0 as a cosine
COMMITMENT = 0.25  # β of TIGER
WARMUP = 0.1  # share of the steps before quantization begins
SETTLE = 0.1  # share of the steps at the end in which no idle code is moved
IDLE = 50  # a code is moved if none of about 50·V vectors took it
SAMPLE = 256  # vectors per code from which the codebooks are initialized
BLOCK = 1 << 14  # vectors encoded at once
LOG_STEPS = 50  # steps between two reports of the loss


class RQVAE(nn.Module):
    """Autoencoder: vectors [B, D] → latent vectors [B, W] → sums of m codes → vectors [B, D].

    Attributes:
        codebooks: codes of all levels, [m, V, W].
    """

    def __init__(self, width: int, num_levels: int, codebook: int) -> None:
        """
        Args:
            width: D.
            num_levels: m.
            codebook: V.
        """
        super().__init__()
        latent = min(LATENT, width)
        self.encoder = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width))
        self.codebooks = nn.Parameter(torch.zeros(num_levels, codebook, latent))

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize latent vectors [B, W].

        Returns:
            codes, int64 [B, m]; residuals before each digit and after the last one, [m + 1, B, W].
        """
        codes, residuals = [], [latent]
        for codebook in self.codebooks:
            # Squared distances without the squares of the residuals, which do not change the nearest code.
            distances = codebook.square().sum(1) - 2 * residuals[-1] @ codebook.T  # [B, V]
            codes.append(distances.argmin(1))
            residuals.append(residuals[-1] - codebook[codes[-1]])
        return torch.stack(codes, 1), torch.stack(residuals)

    def loss(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss ‖x − x̂‖² + Σ_d (‖sg[r_d] − e_d‖² + β ‖r_d − sg[e_d]‖²), the mean of a batch.

        Gradients pass straight through the quantization to the encoder. A code gets gradients from its own
        digit only, not from the decoder or other digits.

        Args:
            vectors: [B, D].

        Returns:
            loss; codes [B, m] and residuals [m + 1, B, W] as in `quantize`.
        """
        latent = self.encoder(vectors)  # [B, W]
        with torch.no_grad():
            codes, residuals = self.quantize(latent)
        chosen = torch.stack(
            [codebook[code] for codebook, code in zip(self.codebooks, codes.T, strict=True)]
        )  # [m, B, W]
        earlier = residuals[0] - residuals[:-1]  # [m, B, W], sums of the codes before each digit
        from_encoder = latent - earlier  # [m, B, W], r_d with gradients of the encoder
        quantized = latent - residuals[-1]  # [B, W], sum of the codes
        reconstruction = F.mse_loss(self.decoder(quantized), vectors, reduction="sum")
        codebook_loss = F.mse_loss(chosen, residuals[:-1], reduction="sum")
        commitment = F.mse_loss(from_encoder, chosen.detach(), reduction="sum")
        loss = (reconstruction + codebook_loss + COMMITMENT * commitment) / len(vectors)
        return loss, codes, residuals


def quantize(vectors: np.ndarray, config: TokenizeConfig, progress: Progress) -> Quantization:
    """Quantize vectors with an autoencoder that is trained on them.

    The relative quantization error is that of the decoder's output for the sum of the first codes. On a CPU,
    the same seed gives the same codes for the same number of threads.

    Args:
        vectors: float32 [N, D], finite.
    """
    mean = vectors.mean(0)  # [D]
    scale = max(math.sqrt(sum_of_squares(vectors - mean) / len(vectors)), np.finfo(np.float32).tiny)
    scaled = torch.from_numpy((vectors - mean) / scale)  # [N, D], mean square length 1, which RATE suits
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RQVAE(vectors.shape[1], config.num_levels, min(config.codebook, len(vectors)))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    train(model, scaled, config, progress)
    codes, squared_error = encode(model, scaled)
    total = max(sum_of_squares(vectors), np.finfo(np.float64).tiny)
    relative_error = (squared_error * scale**2 / total).tolist()
    return Quantization(codes, relative_error, codebooks=_codebooks(model, mean, scale))


@torch.no_grad()
def _codebooks(model: RQVAE, mean: np.ndarray, scale: float) -> Codebooks:
    """Return the encoder and the codebooks of a trained model, for vectors as they are before scaling.

    Args:
        mean: of the vectors, float32 [D].
        scale: divisor of the centered vectors.
    """
    linear = [layer for layer in model.encoder if isinstance(layer, nn.Linear)]
    layers = [torch.column_stack([layer.weight, layer.bias]).cpu().numpy() for layer in linear]
    first = layers[0]
    first[:, :-1] /= scale
    first[:, -1] -= first[:, :-1] @ mean
    return Codebooks(list(model.codebooks.cpu().numpy()), layers)


def train(model: RQVAE, vectors: Tensor, config: TokenizeConfig, progress: Progress) -> None:
    """Train on vectors drawn uniformly.

    The first steps are without quantization; then k-means initializes the codebooks.
    Codes that no vector is near get no gradient, so that a codebook may collapse. Codes of a digit that no
    vector has taken for a while are therefore moved to random residuals of the batch (Dhariwal et al., 2020,
    arXiv 2005.00341).

    Args:
        vectors: float32 [N, D].
    """
    steps = require_option("steps", config.steps)
    device, rng = model.codebooks.device, np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    taken = torch.zeros(model.codebooks.shape[:2], dtype=torch.bool, device=device)  # [m, V]
    V = taken.shape[1]
    start, settled = int(WARMUP * steps), (1 - SETTLE) * steps
    interval = math.ceil(IDLE * V / BATCH)  # steps between two moves of idle codes
    with progress.task("RQ-VAE", total=steps, unit="steps") as task:
        for step in range(steps):
            batch = vectors[rng.integers(len(vectors), size=BATCH)].to(device)  # [B, D]
            if step == start:
                _start_codebooks(model, vectors[rng.permutation(len(vectors))[: SAMPLE * V]], config)
            if step < start:
                loss = F.mse_loss(model.decoder(model.encoder(batch)), batch, reduction="sum") / BATCH
            else:
                loss, codes, residuals = model.loss(batch)
                taken.scatter_(1, codes.T, True)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if start <= step < settled and (step + 1 - start) % interval == 0:
                _move_idle(model.codebooks.data, taken, residuals, rng)
                taken.zero_()
            if (step + 1) % LOG_STEPS == 0:
                task.update(step + 1, f"loss {loss.item():.3f}")


@torch.no_grad()
def encode(model: RQVAE, vectors: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Quantize vectors [N, D] with a trained model.

    Returns:
        codes, int64 [N, m]; squared error of the decoder's output given the first 1 … m codes, summed over
        all vectors, float64 [m].
    """
    codes = []
    squared_error = torch.zeros(len(model.codebooks), dtype=torch.float64)  # [m]
    for block in vectors.split(BLOCK):
        block = block.to(model.codebooks.device)  # [B, D]
        block_codes, residuals = model.quantize(model.encoder(block))
        decoded = model.decoder(residuals[0] - residuals[1:])  # [m, B, D]
        squared_error += (decoded - block).double().square().sum((1, 2)).cpu()
        codes.append(block_codes.cpu())
    return torch.cat(codes).numpy(), squared_error.numpy()


@torch.no_grad()
def _start_codebooks(model: RQVAE, vectors: Tensor, config: TokenizeConfig) -> None:
    """Initialize the codebooks by residual k-means of the latent vectors.

    Args:
        vectors: float32 [N, D] with N ≥ V.
    """
    latent = torch.cat(
        [model.encoder(block.to(model.codebooks.device)) for block in vectors.split(BLOCK)]
    )  # [N, W]
    centroids = kmeans.quantize(latent.cpu().numpy(), config, Silent()).centroids
    assert centroids is not None
    model.codebooks.copy_(torch.from_numpy(np.stack(centroids)))


def _move_idle(codebooks: Tensor, taken: Tensor, residuals: Tensor, rng: np.random.Generator) -> None:
    """Move codes that no vector took to random residuals of their digit.

    Args:
        codebooks: [m, V, W], changed in place.
        taken: True for codes that a vector took, bool [m, V].
        residuals: [m + 1, B, W].
    """
    for codebook, used, residual in zip(codebooks, taken, residuals, strict=False):
        idle = (~used).nonzero().squeeze(1)
        codebook[idle] = residual[rng.integers(len(residual), size=len(idle))]
