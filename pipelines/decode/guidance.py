"""Classifier-free guidance: lean towards what the history makes likelier than it is for anybody."""

from __future__ import annotations

from torch import Tensor

from pipelines.models.sid.item_softmax import Denoiser, ItemSoftmax


def guided(given: Denoiser, unconditional: Denoiser, weight: float) -> Denoiser:
    """Log-probabilities of p(code | history)^(1 + w) / p(code)^w, normalised over the codes of each digit; of items where digits are joint.

    Ho and Salimans 2022 (arXiv 2207.12598), as Schiff et al. 2024 (arXiv 2412.10193, equation 8) apply it to discrete diffusion.

    Args:
        given: the model, given the users' histories.
        anyone: the model, given no history.
        weight: w; 0 is `denoiser` itself.
    """

    if isinstance(given, ItemSoftmax) and isinstance(
        unconditional, ItemSoftmax
    ):  # energies are linear in the states
        return ItemSoftmax(
            lambda codes: (1 + weight) * given.states(codes) - weight * unconditional.states(codes),
            given.vectors,
            given.candidates,
        )

    def expect(codes: Tensor) -> Tensor:
        return ((1 + weight) * given(codes) - weight * unconditional(codes)).log_softmax(-1)

    return expect
