"""DreamRec: the next item's embedding by guided diffusion (Yang et al. 2023, arXiv 2310.20453).

A causal transformer encodes the history as a guidance c. An MLP f predicts the clean embedding x_0 of the
next item from its noisy embedding x_t, the step t and c. Items are ranked by their dot product with the
embedding at the end of the reverse process. Training drops the guidance of a share of the examples, so that
the reverse process can use classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): with `eval
--guidance w` it takes (1 + w) f(x_t, c, t) − w f(x_t, ∅, t) as x_0.

Differences to the paper: every item of a sequence is a target, in one pass; the transformer is SASRec's of
this package. The published loss is the squared error alone; `--ranking`, `--vector-length`, `--residual` and
`--repeat-bias` are ours, and make the model strong.

Shapes: B sequences or users, n items of each, R targets, N items of the catalogue, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.base import Sampling, products
from pipelines.models.item_models.config import DreamRecConfig
from pipelines.models.item_models.sasrec import CausalItems
from pipelines.models.objectives.gaussian import Diffusion, StepEmbedding, user_noise, with_length
from pipelines.models.objectives.losses import softmax_loss
from pipelines.models.objectives.masking import stratified_steps
from pipelines.models.objectives.repeat_bias import RepeatBias


class VectorDenoiser(nn.Module):
    """f: an MLP with one hidden layer over the noisy vector, the guidance and the step, side by side."""

    def __init__(self, width: int, hidden: int, scale: float, residual: bool) -> None:
        """
        Args:
            width: D.
            hidden: hidden width.
            scale: factor of the prediction.
            residual: if true, the guidance is added to the prediction.
        """
        super().__init__()
        self.scale, self.residual, self.step_embedding = scale, residual, StepEmbedding(width)
        self.of_noisy = nn.Linear(width, hidden)
        self.of_guidance = nn.Linear(width, hidden, bias=False)
        self.of_step = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, width)

    def forward(self, noisy: Tensor, guidance: Tensor, steps: Tensor) -> Tensor:
        """Predict clean vectors.

        Args:
            noisy: x_t, [R, D].
            guidance: c, [R or 1, D].
            steps: t, [R or 1].

        Returns:
            The expected x_0, float32 [R, D].
        """
        hidden = self.of_noisy(noisy) + self.of_guidance(guidance) + self.of_step(self.step_embedding(steps))
        predicted = self.out(F.gelu(hidden)).float()
        return self.scale * (predicted + guidance if self.residual else predicted)


class DreamRec(CausalItems):
    """Guided diffusion of the vector of the next item.

    The score of an item is the dot product of its vector with the vector that is generated for the user.
    """

    config: DreamRecConfig
    decoding_options = frozenset({"nfe", "guidance", "seed"})

    def __init__(self, config: DreamRecConfig, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)
        if not config.vector_length:
            nn.init.normal_(self.embedding.weight)
        # Length of item vectors; without the option, their length before training.
        self.length = config.vector_length or config.width**0.5
        self.diffusion = Diffusion(config.noise_schedule, config.timesteps)
        self.denoiser = VectorDenoiser(
            config.width, config.mlp, self.length / config.width**0.5, config.residual
        )
        self.unconditional = nn.Parameter(torch.zeros(1, config.width))  # ∅
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config.repeat_bias else None

    @property
    def validation_nfe(self) -> int:
        """Number of function evaluations of a validation."""
        return min(20, self.config.timesteps)

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw a training batch.

        Returns:
            The items [B, n]; loss weights [B, n], 1 for every item that has an item before it; the step of
            each target, int64 [B, n]; bool [B, n], True where the guidance of a target is dropped.
        """
        items, weights = super().make_training_batch(items, rng, horizon)
        steps = np.zeros(items.shape, np.int64)
        steps[weights > 0] = stratified_steps(int(weights.sum()), self.config.timesteps, rng)
        return items, weights, steps, rng.random(items.shape) < self.config.history_dropout

    def forward(
        self, items: np.ndarray, weights: np.ndarray, steps: np.ndarray, dropped: np.ndarray
    ) -> Tensor:
        """Compute the weighted sum of the losses of the targets; arguments from `make_training_batch`.

        The loss is the squared error of the predicted vector; with `--ranking` a cross-entropy is added.
        """
        positions, weight, target, step, unguided = self.targets(
            weights, items.astype(np.int64), steps, dropped
        )
        unguided = unguided[:, None]  # [R, 1]
        guidance = torch.where(unguided, self.unconditional, self.states_before(items, positions))
        clean = self.vectors(self.embedding(target))  # [R, D]
        predicted = self.denoiser(self.diffusion.add_noise(clean, step), guidance, step)
        loss = (predicted - clean).square().sum(1) @ weight / self.length**2
        if not self.config.ranking:
            return loss
        repeat_bias = None
        if self.repeat_bias is not None:
            history = self.histories_before(items, positions).masked_fill(unguided, -1)  # [R, n − 1]
            repeat_bias = RepeatBias(history, self.repeat_bias)
        vectors = self.vectors(self.embedding.weight)
        return loss + self.config.ranking * softmax_loss(
            self.as_states(predicted), vectors, target, weight, repeat_bias=repeat_bias
        )

    def scores(self, history: Tensor, users: Tensor, sampling: Sampling = Sampling()) -> Tensor:
        """Score all items; see `ItemRanker.scores`. With guidance, a function evaluation runs f twice.

        Raises:
            UserError: more function evaluations than steps.
        """
        w, guidance = sampling.guidance, self.last_states(history, history >= 0)

        def predict(x: Tensor, step: int) -> Tensor:
            steps = torch.full((1,), step, device=x.device)
            clean = self.denoiser(x, guidance, steps)
            return (1 + w) * clean - w * self.denoiser(x, self.unconditional, steps) if w else clean

        def noise(step: int) -> Tensor:
            return user_noise(users, self.config.width, (sampling.seed, step))

        generated = self.diffusion.generate(predict, noise, sampling.nfe)  # [B, D]
        scores = products(self.as_states(generated), self.vectors(self.embedding.weight))
        repeat_bias = RepeatBias.of(history, self.repeat_bias)
        return self.ranked(scores if repeat_bias is None else repeat_bias.add_to(scores))

    def as_states(self, vectors: Tensor) -> Tensor:
        """Scale vectors [R, D] for dot products with item vectors.

        The dot product of a vector of the items' length with an item vector is then √D × their cosine.
        """
        return vectors * (self.config.width**0.5 / self.length**2)

    def vectors(self, embeddings: Tensor) -> Tensor:
        """Return the item vectors of embeddings [R, D]; with `--vector-length` all have that length."""
        return with_length(embeddings, self.length) if self.config.vector_length else embeddings
