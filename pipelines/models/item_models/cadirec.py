"""CaDiRec: SASRec with views of each sequence from a diffusion model (Cui et al. 2024, arXiv 2405.09369).

Some items of a sequence are noised, and a bidirectional transformer, which sees the clean vectors of the
other items, learns to recover them. Its reverse process generates replacements that fit the context. Two
views of a sequence with different items replaced should have similar representations. The losses of
recommendation, contrast and diffusion are trained together, over the same item embeddings.

Differences to the paper: rotary positions; at least one item is replaced in each view; the diffusion works on
item vectors scaled to the length of its noise; its loss is the cross-entropy of the item given the predicted
vector (the authors' settings for Beauty give this term all the weight, and the squared error none); steps are
drawn uniformly. The other sequences of the contrastive loss are those of the same forward pass.

Shapes: B sequences, n items of each, R noised or replaced items, N items of the catalogue, D width, M packed
tokens (real items).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.catalogue import Catalogue
from pipelines.models.item_models.config import CaDiRecConfig
from pipelines.models.item_models.sasrec import SASRec
from pipelines.models.nn.packing import Layout, to_device
from pipelines.models.nn.transformer import Encoder
from pipelines.models.objectives.gaussian import Diffusion, StepEmbedding, with_length
from pipelines.models.objectives.losses import contrastive_loss, softmax_loss
from pipelines.models.objectives.masking import choose_items, stratified_steps


class CaDiRec(SASRec):
    """CaDiRec: it recommends as SASRec does, and differs in its training."""

    config: CaDiRecConfig
    streams = 4  # recommendation, diffusion, and two views

    def __init__(self, config: CaDiRecConfig, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue, sparse=False)  # diffusion and views compare with all items
        self.denoiser, self.step_embedding = Encoder(config), StepEmbedding(config.width)
        self.diffusion = Diffusion(config.noise_schedule, config.timesteps)

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """Draw a training batch.

        Its weights give each loss its mean over the step, times the weight of the loss.

        Returns:
            Arrays [B, n, …]: the items; the loss weights of the targets; bool [B, n, 2], True where either
            view replaces an item; the loss weights of the noised items, 0 where an item is not noised; the
            weight of the item's sequence in the contrastive loss; the step of the sequence's noise; with
            `--loss bce` a negative for each item.
        """
        config = self.config
        items, weights, *negative = super().make_training_batch(items, rng, horizon)
        real, targets = items >= 0, weights.sum()
        views = np.stack([choose_items(real, config.replaced, rng) for _ in range(2)], axis=2)  # [B, n, 2]
        noised = choose_items(real, config.replaced, rng)
        steps = stratified_steps(len(items), config.timesteps, rng)  # [B]
        steps = np.repeat(steps[:, None], items.shape[1], axis=1)  # [B, n]
        noised_weights = noised * np.float32(config.denoising * targets / noised.sum())
        sequence_weights = np.full(items.shape, config.contrastive * targets / len(items), np.float32)
        return items, weights, views, noised_weights, sequence_weights, steps, *negative

    def forward(self, items: np.ndarray, weights: np.ndarray, *more: np.ndarray) -> Tensor:
        """Compute the sum of the three losses; arguments from `make_training_batch`."""
        views, noised_weights, sequence_weights, steps, *negative = more
        loss = super().forward(items, weights, *negative)
        all_items = torch.as_tensor(items)
        real, history = all_items >= 0, to_device(all_items, self.device).long()
        vectors = with_length(self.embedding.weight, self.config.width**0.5)  # [N, D]
        layout = Layout.bidirectional(real, self.device)
        if self.config.denoising:
            loss = loss + self._diffusion_loss(
                history, layout, vectors, torch.as_tensor(noised_weights), torch.as_tensor(steps)
            )
        if self.config.contrastive:
            first, second = (
                self.last_states(self.replace_items(history, layout, vectors, view), real)
                for view in torch.as_tensor(views).unbind(2)
            )
            weight = to_device(torch.as_tensor(sequence_weights)[:, -1].contiguous(), self.device)  # [B]
            loss = loss + contrastive_loss(first, second, weight, self.config.temperature)
        return loss

    @torch.no_grad()
    def replace_items(self, history: Tensor, layout: Layout, vectors: Tensor, chosen: Tensor) -> Tensor:
        """Replace some items of sequences by items that the reverse process generates from the other items.

        Args:
            history: int64 [B, n], −1 at padding.
            layout: layout of the real items.
            vectors: item vectors [N, D].
            chosen: bool [B, n], True where an item is replaced. On the GPU it makes the host wait for the
                GPU; on the host it does not.

        Returns:
            int64 [B, n].
        """
        positions = to_device(chosen.flatten().nonzero().squeeze(1), history.device)  # [R] into B·n
        tokens = layout.index(positions)  # [R] into M
        context = F.embedding(layout.pack(history), vectors)  # [M, D]

        def predict(x: Tensor, step: int) -> Tensor:
            return self.predict(x, torch.full((1,), step, device=x.device), context, tokens, layout)

        def noise(step: int) -> Tensor:
            return torch.randn_like(context[: len(positions)])

        self.denoiser.eval()
        generated = self.diffusion.generate(predict, noise, self.config.sampling_steps)  # [R, D]
        self.denoiser.train(self.training)
        nearest = (generated @ vectors.T).argmax(1)  # [R]
        return history.flatten().index_copy(0, positions, nearest).view_as(history)

    def _diffusion_loss(
        self, history: Tensor, layout: Layout, vectors: Tensor, weights: Tensor, steps: Tensor
    ) -> Tensor:
        """Compute the cross-entropy of the noised items, given their noisy vectors and all other items.

        Args:
            history: int64 [B, n], −1 at padding.
            layout: layout of the real items.
            vectors: item vectors [N, D].
            weights: loss weights [B, n] on the host, 0 where an item is not noised.
            steps: int64 [B, n] on the host.
        """
        positions = weights.flatten().nonzero().squeeze(1)  # [R] into B·n
        weight = to_device(weights.flatten()[positions], history.device)  # [R]
        step = to_device(steps.flatten()[positions], history.device)  # [R]
        positions = to_device(positions, history.device)
        tokens, target = layout.index(positions), history.flatten()[positions]  # [R] each
        context = F.embedding(layout.pack(history), vectors)  # [M, D]
        noisy = self.diffusion.add_noise(F.embedding(target, vectors), step)  # [R, D]
        predicted = self.predict(noisy, step, context, tokens, layout)
        return softmax_loss(predicted * self.config.width**-0.5, vectors, target, weight)

    def predict(
        self, noisy: Tensor, steps: Tensor, context: Tensor, tokens: Tensor, layout: Layout
    ) -> Tensor:
        """Predict the clean vectors of noised items.

        Args:
            noisy: noisy vectors [R, D].
            steps: their steps, int64 [R or 1].
            context: vectors of all items [M, D]; those of the noised items are not used.
            tokens: int64 [R], indices of the noised items into M.
            layout: layout of the real items.

        Returns:
            [R, D].
        """
        x = context.index_copy(0, tokens, (noisy + self.step_embedding(steps)).to(context.dtype))  # [M, D]
        return self.denoiser(x, layout, tokens)
