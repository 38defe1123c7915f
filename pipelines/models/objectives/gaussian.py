"""Gaussian diffusion of vectors: noise schedules, the forward process, the reverse process.

Steps run from 0, the clean vector, to `timesteps`, almost pure noise.

Shapes: B users, R vectors, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.errors import UserError

MAX_BETA = 0.999  # Nichol and Dhariwal 2021, section 3.2


def alpha_bars(schedule: str, timesteps: int) -> Tensor:
    """Return ᾱ of all steps: the share of a vector's variance that remains after each step, from ᾱ_0 = 1.

    - "linear": β from 0.0001 to 0.02 at 1,000 timesteps, multiplied by 1,000 / timesteps at other numbers of
      timesteps (Ho et al. 2020, arXiv 2006.11239).
    - "cosine": ᾱ ∝ cos²((step/timesteps + 0.008) / 1.008 · π/2) (Nichol and Dhariwal 2021, arXiv 2102.09672,
      equation 17).
    - "sqrt": ᾱ ∝ 1 − √(step/timesteps + 0.0001) (Li et al. 2022, arXiv 2205.14217, appendix A).

    Args:
        schedule: one of the three.
        timesteps: number of steps.

    Returns:
        float64 [timesteps + 1].
    """
    if schedule == "linear":
        beta = torch.linspace(1e-4, 0.02, timesteps, dtype=torch.float64) * 1000 / timesteps
    else:
        time = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps  # 0 to 1
        if schedule == "cosine":
            curve = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        else:
            curve = 1 - torch.sqrt(time + 1e-4)
        beta = 1 - curve[1:] / curve[:-1]
    return torch.cat((torch.ones(1, dtype=torch.float64), (1 - beta.clamp(max=MAX_BETA)).cumprod(0)))


def strided_steps(timesteps: int, evaluations: int | None) -> list[int]:
    """Return the steps of a reverse process: evenly spaced, from `timesteps` down to 1.

    Args:
        timesteps: number of steps of the diffusion.
        evaluations: number of function evaluations; None for one per step.

    Raises:
        UserError: more evaluations than steps.
    """
    count = evaluations or timesteps
    if count > timesteps:
        raise UserError(
            f"--nfe {count} is more than the {timesteps:,} steps of the diffusion; use 1 to {timesteps}."
        )
    if count == 1:
        return [timesteps]
    return [timesteps - i * (timesteps - 1) // (count - 1) for i in range(count)]


class Diffusion(nn.Module):
    """The forward process q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I), and its reversal by predictions of x_0.

    Attributes:
        timesteps: number of steps.
    """

    alpha_bars: Tensor  # float32 [timesteps + 1]

    def __init__(self, schedule: str, timesteps: int) -> None:
        """
        Args:
            schedule: noise schedule, see `alpha_bars`.
            timesteps: number of steps.
        """
        super().__init__()
        bars = alpha_bars(schedule, timesteps)
        self.timesteps = timesteps
        self._alpha_bars: list[float] = bars.tolist()  # float64
        self.register_buffer("alpha_bars", bars.float(), persistent=False)

    def add_noise(self, clean: Tensor, steps: Tensor) -> Tensor:
        """Draw the noisy vectors x_t of clean vectors.

        Args:
            clean: x_0, [R, D].
            steps: int64 [R], the step t of each vector.

        Returns:
            [R, D].
        """
        kept = self.alpha_bars[steps][:, None]  # [R, 1]
        return kept.sqrt() * clean + (1 - kept).sqrt() * torch.randn_like(clean)

    def generate(
        self,
        predict: Callable[[Tensor, int], Tensor],
        noise: Callable[[int], Tensor],
        evaluations: int | None = None,
    ) -> Tensor:
        """Generate R clean vectors from noise.

        Each step draws x_s from q(x_s | x_t, x_0), s < t, with the x_0 that is predicted from x_t. With one
        evaluation per step this is the reverse process of Ho et al. 2020 (equation 7, variance β̃_t). With
        fewer evaluations it skips steps (Song et al. 2021, arXiv 2010.02502, section 4.2, with the variance
        of equation 16, η = 1).

        Args:
            predict: function from x_t [R, D] and the step t to the expected x_0 [R, D].
            noise: function from a step to standard normal numbers [R, D].
            evaluations: number of calls of `predict`; None for one per step.

        Returns:
            [R, D].

        Raises:
            UserError: more evaluations than steps.
        """
        x = noise(self.timesteps)
        for step, earlier in pairwise((*strided_steps(self.timesteps, evaluations), 0)):
            clean_factor, noisy_factor, deviation = self.posterior(step, earlier)
            x = clean_factor * predict(x, step).float() + noisy_factor * x
            if earlier:
                x = x + deviation * noise(earlier)
        return x

    def posterior(self, step: int, earlier: int) -> tuple[float, float, float]:
        """Return the factors of x_0 and x_t in the mean of q(x_s | x_t, x_0), and its standard deviation.

        Args:
            step: t.
            earlier: s < t.
        """
        bar, earlier_bar = self._alpha_bars[step], self._alpha_bars[earlier]
        kept = bar / earlier_bar
        return (
            math.sqrt(earlier_bar) * (1 - kept) / (1 - bar),
            math.sqrt(kept) * (1 - earlier_bar) / (1 - bar),
            math.sqrt((1 - kept) * (1 - earlier_bar) / (1 - bar)),
        )


class StepEmbedding(nn.Module):
    """Embedding of steps: sinusoids (Vaswani et al. 2017, arXiv 1706.03762, section 3.5) and a linear map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.out = width, nn.Linear(width, width)

    def forward(self, steps: Tensor) -> Tensor:
        """Embed steps: [R] → [R, D]."""
        exponent = torch.arange(0, self.width, 2, device=steps.device, dtype=torch.float32) / self.width
        angle = steps.float()[:, None] * 10000.0**-exponent  # [R, D/2]
        return self.out(torch.cat((angle.sin(), angle.cos()), dim=1))


def with_length(vectors: Tensor, length: float) -> Tensor:
    """Scale vectors [R, D] to one length.

    Their length relative to that of noise, √D, is then fixed instead of learned.
    """
    return length * F.normalize(vectors.float(), dim=1)


def user_noise(users: Tensor, width: int, seed: Sequence[int]) -> Tensor:
    """Return standard normal numbers that are the same for a user in any batch.

    Each number is a hash of the user id, the seed and its column (the finalizer of SplitMix64, Steele et al.
    2014). The two halves of a hash are the uniform numbers of the Box-Muller transform.

    Args:
        users: user ids, int64 [B].
        width: D.
        seed: any integers.

    Returns:
        float32 [B, D].
    """
    key = torch.zeros((), dtype=torch.int64, device=users.device)
    for part in seed:
        key = _hash(key + part)
    columns = torch.arange(-(-width // 2), device=users.device)
    bits = _hash(_hash(key + users)[:, None] + columns)  # [B, D/2]
    radius = ((((bits >> 32) & 0xFFFFFFFF).float() + 0.5) / 2**32).log().mul(-2).sqrt()
    angle = (bits & 0xFFFFFFFF).float() * (2 * math.pi / 2**32)
    return torch.cat((radius * angle.cos(), radius * angle.sin()), dim=1)[:, :width]


def _hash(z: Tensor) -> Tensor:
    """Hash int64 numbers by a bijection; integers overflow on purpose."""
    z = (z + 1) * -0x61C8864680B583EB
    z = (z ^ ((z >> 30) & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    z = (z ^ ((z >> 27) & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return z ^ ((z >> 31) & (1 << 33) - 1)
