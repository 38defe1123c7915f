"""DreamRec: the next item's embedding by guided diffusion (Yang et al. 2023, arXiv 2310.20453).

A causal transformer makes a guidance c of the history, an MLP f predicts the clean embedding x_0 of the next item from its noised
x_t, the step t and c, and items are ranked by their product with the embedding that the reverse process ends at. Training takes the
guidance away from a share of the examples, so that the reverse process can lean on it: it then takes (1 + w) f(x_t, c, t) −
w f(x_t, ∅, t) for x_0 (Ho and Salimans 2022, arXiv 2207.12598), with `eval --guidance w`.

Against the paper: every item of a sequence is a target, in one pass; the transformer is SASRec's of this package. As published the
loss is the squared error alone; `--ranking`, `--vector-length`, `--residual` and `--repeat-bias` are ours, and what makes it strong.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import products
from pipelines.models.item_models.config import DreamRecConfig
from pipelines.models.item_models.sasrec import CausalItems
from pipelines.models.objectives.gaussian import Diffusion, StepEmbedding, of_length, user_noise
from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.masking import stratified_steps
from pipelines.models.objectives.repeat_bias import Held, held_by, with_repeats


class VectorDenoiser(nn.Module):
    """f: an MLP with one hidden layer over noisy vector, guidance and step side by side; with `residual`, plus the guidance."""

    def __init__(self, width: int, hidden: int, scale: float, residual: bool) -> None:
        super().__init__()
        self.scale, self.residual, self.step = scale, residual, StepEmbedding(width)
        self.of_noisy, self.of_guidance, self.of_step = (
            nn.Linear(width, hidden, bias=first) for first in (True, False, False)
        )
        self.out = nn.Linear(hidden, width)

    def forward(self, noisy: Tensor, guidance: Tensor, t: Tensor) -> Tensor:
        """x_t [R, D], c [R or 1, D] and t [R or 1] → the expected x_0 [R, D]."""
        hidden = self.of_noisy(noisy) + self.of_guidance(guidance) + self.of_step(self.step(t))
        found = self.out(F.gelu(hidden)).float()
        return self.scale * (found + guidance if self.residual else found)


class DreamRec(CausalItems):
    """Scores of items are products of their vectors with the one generated for the user."""

    decoding_options = frozenset({"nfe", "guidance", "seed"})

    def __init__(self, config: DreamRecConfig, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)
        if not config.vector_length:
            nn.init.normal_(self.embedding.weight)
        self.length = config.vector_length or config.width**0.5  # of items' vectors, as it is or begins
        self.diffusion = Diffusion(config.noise_schedule, config.timesteps)
        self.denoiser = VectorDenoiser(
            config.width, config.mlp, self.length / config.width**0.5, config.residual
        )
        self.unconditional = nn.Parameter(torch.zeros(1, config.width))  # ∅
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config.repeat_bias else None

    @property
    def validation_nfe(self) -> int:
        return min(20, self.config.timesteps)

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """As SASRec; and for each target its step t and whether its guidance is taken away, [B, n] each."""
        items, weights = super().make_training_batch(items, rng, horizon)
        t = np.zeros(items.shape, np.int64)
        t[weights > 0] = stratified_steps(int(weights.sum()), self.config.timesteps, rng)
        return items, weights, t, rng.random(items.shape) < self.config.history_dropout

    def forward(self, items: np.ndarray, weights: np.ndarray, t: np.ndarray, forgotten: np.ndarray) -> Tensor:
        """Weighted sum of the squared errors of the predicted vectors, and with `--ranking` of cross-entropies; arguments as drawn."""
        places, weight, target, t, forgotten = self.asked(weights, items.astype(np.int64), t, forgotten)
        guidance = torch.where(forgotten[:, None], self.unconditional, self.before(items, places))
        clean = self.vectors(self.embedding(target))  # [R, D]
        predicted = self.denoiser(self.diffusion.noised(clean, t), guidance, t)
        loss = (predicted - clean).square().sum(1) @ weight / self.length**2
        if not self.config.ranking:
            return loss
        held = None
        if self.repeat_bias is not None:
            held = Held(self.history(items, places).masked_fill(forgotten[:, None], -1), self.repeat_bias)
        vectors = self.vectors(self.embedding.weight)
        return loss + self.config.ranking * softmax_loss(
            self.as_states(predicted), vectors, target, weight, held=held
        )

    def scores(
        self, history: Tensor, users: Tensor, nfe: int | None = None, guidance: float = 0.0, seed: int = 0
    ) -> Tensor:
        """As `ItemRanker`.

        Args:
            nfe: steps at which the reverse process predicts, all T by default; with guidance each takes f twice.
            guidance: w.
            seed: of the noise.

        Raises:
            UserError: nfe is more than T.
        """
        given = self.last_states(history, history >= 0)

        def predict(x: Tensor, t: int) -> Tensor:
            step = torch.full((1,), t, device=x.device)
            expected = self.denoiser(x, given, step)
            return (
                (1 + guidance) * expected - guidance * self.denoiser(x, self.unconditional, step)
                if guidance
                else expected
            )

        oracle = self.diffusion.generate(
            predict, lambda step: user_noise(users, self.config.width, (seed, step)), nfe
        )  # [B, D]
        scores = products(self.as_states(oracle), self.vectors(self.embedding.weight))
        return with_repeats(scores, held_by(history, self.repeat_bias))

    def as_states(self, vectors: Tensor) -> Tensor:
        """Vectors [R, D] so long that their products with items' are √D × their cosines, where they have the items' length."""
        return vectors * (self.config.width**0.5 / self.length**2)

    def vectors(self, embeddings: Tensor) -> Tensor:
        """Embeddings [R, D] as they are noised and ranked by."""
        return of_length(embeddings, self.length) if self.config.vector_length else embeddings
