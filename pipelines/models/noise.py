"""The forward process of masked diffusion, as loss weights: 0 where a digit stays visible, 1/t where it is masked."""

from __future__ import annotations

import numpy as np

FLOOR = 1e-3  # smallest masking rate, so that 1/t stays finite


def masked_diffusion_weights(real: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Masks and loss weights of one optimiser step (paper, section 3.1, eq. 3).

    Each sequence draws a masking rate t ~ U(0, 1], floored at 1e-3; each of its real digits is masked
    independently with probability t and then counts 1/t. The rates are stratified: the B sequences take one
    rate from each of B equal intervals of (0, 1], which keeps the marginal of every t uniform, so the
    expected loss is unchanged and only its variance between steps falls.

    Args:
        real: [B, n, H], False where there is no item.

    Returns:
        float32 [B, n, H]: 1/t where masked, 0 elsewhere. What is masked is what counts.
    """
    B = len(real)
    t = (rng.permutation(B) + 1.0 - rng.random(B)) / B  # (0, 1]
    t = np.maximum(t, FLOOR).astype(np.float32)[:, None, None]
    masked = (rng.random(real.shape, dtype=np.float32) < t) & real
    return masked / t
