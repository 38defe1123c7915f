"""Gaussian diffusion of vectors: noise schedules, the forward process, and a reverse process that predicts x_0.

Shapes: R vectors, D width, T steps. Step 0 is the clean vector, step T all but noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.errors import UserError

LARGEST_BETA = 0.999  # Nichol and Dhariwal 2021, section 3.2


def alpha_bars(schedule: str, T: int) -> Tensor:
    """ᾱ_0 = 1 … ᾱ_T, the share of a vector's variance that is left after each step, float64 [T + 1].

    Args:
        schedule: "linear": β from 0.0001 to 0.02 at T = 1,000 (Ho et al. 2020, arXiv 2006.11239), times 1,000 / T elsewhere;
            "cosine": ᾱ ∝ cos²((t/T + 0.008) / 1.008 · π/2) (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 17);
            "sqrt": ᾱ ∝ 1 − √(t/T + 0.0001) (Li et al. 2022, arXiv 2205.14217, appendix A).
    """
    part = torch.arange(T + 1, dtype=torch.float64) / T
    if schedule == "linear":
        beta = torch.linspace(1e-4, 0.02, T, dtype=torch.float64) * 1000 / T
    else:
        left = (
            torch.cos((part + 0.008) / 1.008 * math.pi / 2) ** 2
            if schedule == "cosine"
            else 1 - torch.sqrt(part + 1e-4)
        )
        beta = 1 - left[1:] / left[:-1]
    return torch.cat((torch.ones(1, dtype=torch.float64), (1 - beta.clamp(max=LARGEST_BETA)).cumprod(0)))


def strided(T: int, evaluations: int | None) -> list[int]:
    """The steps at which a reverse process with so many evaluations looks: from T down to 1, evenly; None for all.

    Raises:
        UserError: more evaluations than steps.
    """
    S = evaluations or T
    if S > T:
        raise UserError(f"--nfe {S} is more than the {T:,} steps of the diffusion; use 1 to {T}.")
    return [T - i * (T - 1) // (S - 1) for i in range(S)] if S > 1 else [T]


class Diffusion(nn.Module):
    """q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I), and its reversal from predictions of x_0."""

    def __init__(self, schedule: str, T: int) -> None:
        super().__init__()
        bars = alpha_bars(schedule, T)
        self.steps, self._bars = T, bars.tolist()
        self.register_buffer("bars", bars.float(), persistent=False)  # [T + 1]

    def noised(self, clean: Tensor, t: Tensor) -> Tensor:
        """x_t of vectors [R, D] at steps t, int64 [R]."""
        left = self.bars[t][:, None]
        return left.sqrt() * clean + (1 - left).sqrt() * torch.randn_like(clean)

    def generate(
        self,
        predict: Callable[[Tensor, int], Tensor],
        noise: Callable[[int], Tensor],
        evaluations: int | None = None,
    ) -> Tensor:
        """A clean vector for each of R, from noise: x_T to x_0 by draws from q(x_s | x_t, x_0) with the x_0 predicted at t.

        With all T evaluations s = t − 1 and this is the reverse process of Ho et al. 2020 (equation 7, variance β̃_t); with fewer,
        steps between are left out (Song et al. 2021, arXiv 2010.02502, section 4.2, with the variance of equation 16, η = 1).

        Args:
            predict: x_t [R, D] and t to the expected x_0 [R, D].
            noise: standard normal numbers [R, D] for a step.
            evaluations: of `predict`; None for T.
        """
        x = noise(self.steps)
        for t, s in pairwise((*strided(self.steps, evaluations), 0)):
            to_clean, to_noisy, deviation = self.posterior(t, s)
            x = to_clean * predict(x, t).float() + to_noisy * x
            if s:
                x = x + deviation * noise(s)
        return x

    def posterior(self, t: int, s: int) -> tuple[float, float, float]:
        """q(x_s | x_t, x_0) for s < t: what x_0 and x_t count in its mean, and its standard deviation."""
        now, then = self._bars[t], self._bars[s]
        kept = now / then
        return (
            math.sqrt(then) * (1 - kept) / (1 - now),
            math.sqrt(kept) * (1 - then) / (1 - now),
            math.sqrt((1 - kept) * (1 - then) / (1 - now)),
        )


class StepEmbedding(nn.Module):
    """Steps as vectors: sinusoids (Vaswani et al. 2017, section 3.5), and a linear map of these."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.out = width, nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """t [R] → [R, D]."""
        frequency = 10000.0 ** (
            -torch.arange(0, self.width, 2, device=t.device, dtype=torch.float32) / self.width
        )
        angle = t.float()[:, None] * frequency
        return self.out(torch.cat((angle.sin(), angle.cos()), dim=1))


def of_length(vectors: Tensor, length: float) -> Tensor:
    """Vectors [R, D] at the same length: how loud they are against noise of length √D is then no longer learnt."""
    return length * F.normalize(vectors.float(), dim=1)


def user_noise(users: Tensor, width: int, seed: Sequence[int]) -> Tensor:
    """Standard normal numbers for each user; the same for a user in any batch.

    A number is a hash of the user, the seed and its place (the finaliser of SplitMix64, Steele et al. 2014), halved into the two
    uniform numbers that the Box-Muller transform takes.

    Args:
        users: int64 [B].
        width: D.
        seed: any integers.

    Returns:
        float32 [B, D].
    """
    key = torch.zeros((), dtype=torch.int64, device=users.device)
    for part in seed:
        key = _mixed(key + part)
    places = torch.arange(-(-width // 2), device=users.device)
    bits = _mixed(_mixed(key + users)[:, None] + places)  # [B, D/2]
    radius = ((((bits >> 32) & 0xFFFFFFFF).float() + 0.5) / 2**32).log().mul(-2).sqrt()
    angle = (bits & 0xFFFFFFFF).float() * (2 * math.pi / 2**32)
    return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=1)[:, :width]


def _mixed(z: Tensor) -> Tensor:
    """A bijection of int64 that leaves no pattern of the input; integers wrap."""
    z = (z + 1) * -0x61C8864680B583EB
    z = (z ^ ((z >> 30) & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    z = (z ^ ((z >> 27) & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return z ^ ((z >> 31) & (1 << 33) - 1)
