"""Classifier-free guidance: lean towards what the history makes likelier than it is for anybody."""

from __future__ import annotations

from torch import Tensor

from pipelines.models.joint import Joint, LogProbabilities


def guided(given: LogProbabilities, anyone: LogProbabilities, weight: float) -> LogProbabilities:
    """Log-probabilities of p(code | history)^(1 + w) / p(code)^w, normalised over the codes of each digit; of items where digits are joint.

    Ho and Salimans 2022 (arXiv 2207.12598), as Schiff et al. 2024 (arXiv 2412.10193, equation 8) apply it to discrete diffusion.

    Args:
        given: the model, given the users' histories.
        anyone: the model, given no history.
        weight: w; 0 is `given` itself.
    """

    if isinstance(given, Joint) and isinstance(anyone, Joint):  # energies are linear in the states
        return Joint(lambda codes: (1 + weight) * given.states(codes) - weight * anyone.states(codes), given.vectors, given.members)

    def expect(codes: Tensor) -> Tensor:
        return ((1 + weight) * given(codes) - weight * anyone(codes)).log_softmax(-1)

    return expect
