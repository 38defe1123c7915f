"""CaDiRec: SASRec with views of each sequence that a diffusion model makes (Cui et al. 2024, arXiv 2405.09369).

Some items of a sequence are noised and a bidirectional transformer, which sees the others clean, learns to find them again. Run
backwards from noise it generates alternatives that fit the context; two views of a sequence with different items replaced should
have like representations. Recommendation, contrastive and diffusion loss are trained together, over the same item embeddings.

Against the paper: rotary positions; at least one item is replaced in each view; the diffusion sees item vectors at the length of its
noise; its loss is the cross-entropy of the item given the predicted vector (to which the authors' settings for Beauty give all the
weight, and none to the squared error); steps are drawn evenly. Other sequences to contrast with are those of the same forward pass.
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
from pipelines.models.objectives.gaussian import Diffusion, StepEmbedding, of_length
from pipelines.models.objectives.losses import contrastive_loss, softmax_loss
from pipelines.models.objectives.masking import chosen_items, stratified_steps


class CaDiRec(SASRec):
    """Recommends as SASRec does; all else is training."""

    streams = 4  # to recommend, to denoise, and two views

    def __init__(self, config: CaDiRecConfig, catalogue: Catalogue) -> None:
        super().__init__(config, catalogue)
        self.denoiser, self.step = Encoder(config), StepEmbedding(config.width)
        self.diffusion = Diffusion(config.noise_schedule, config.timesteps)

    def make_training_batch(
        self, items: np.ndarray, rng: np.random.Generator, horizon: int = 1
    ) -> tuple[np.ndarray, ...]:
        """What one step trains on, [B, n, …] each.

        Returns:
            The items; what each counts as a target; which are replaced in either view, bool [B, n, 2]; what each counts that is
            noised, 0 where it is not; what its sequence counts in the contrast of views; the step t of its noise; a negative for
            each with `--loss bce`. The counts give each loss its mean over the step, times its weight.
        """
        config = self.config
        items, weights, *negative = super().make_training_batch(items, rng, horizon)
        real, targets = items >= 0, weights.sum()
        views = np.stack([chosen_items(real, config.replaced, rng) for _ in range(2)], axis=2)
        noised = chosen_items(real, config.replaced, rng)
        t = np.repeat(stratified_steps(len(items), config.timesteps, rng)[:, None], items.shape[1], axis=1)
        denoised = noised * np.float32(config.denoising * targets / noised.sum())
        alike = np.full(items.shape, config.contrastive * targets / len(items), np.float32)
        return items, weights, views, denoised, alike, t, *negative

    def forward(
        self,
        items: np.ndarray,
        weights: np.ndarray,
        views: np.ndarray,
        denoised: np.ndarray,
        alike: np.ndarray,
        t: np.ndarray,
        *negative: np.ndarray,
    ) -> Tensor:
        """Recommendation, diffusion and contrastive loss together; arguments as `make_training_batch` made them."""
        loss = super().forward(items, weights, *negative)
        device, truth = self.embedding.weight.device, torch.as_tensor(items)
        real, history = truth >= 0, to_device(truth, device).long()
        vectors = of_length(self.embedding.weight, self.config.width**0.5)  # [N, D]
        layout = Layout.of(real, device)
        if self.config.denoising:
            loss = loss + self._denoising(
                history, layout, vectors, torch.as_tensor(denoised), torch.as_tensor(t)
            )
        if self.config.contrastive:
            views = torch.as_tensor(views).unbind(2)
            first, second = (
                self.last_states(self.alternatives(history, layout, vectors, view), real) for view in views
            )
            counted = to_device(torch.as_tensor(alike)[:, -1].contiguous(), device)
            loss = loss + contrastive_loss(first, second, counted, self.config.temperature)
        return loss

    @torch.no_grad()
    def alternatives(self, history: Tensor, layout: Layout, vectors: Tensor, chosen: Tensor) -> Tensor:
        """Sequences with some items replaced by what the reverse process generates in their place, given the others.

        Args:
            history: int64 [B, n], −1 at padding.
            layout: of its items.
            vectors: of all items, [N, D].
            chosen: bool [B, n], which to replace; on the host where a GPU shall not be waited for.

        Returns:
            int64 [B, n].
        """
        places = to_device(chosen.flatten().nonzero().squeeze(1), history.device)  # [R] into B·n
        where, context = layout.index(places), F.embedding(layout.pack(history), vectors)

        def predict(x: Tensor, t: int) -> Tensor:
            return self._found(x, torch.full((1,), t, device=x.device), context, where, layout)

        self.denoiser.eval()
        found = self.diffusion.generate(
            predict, lambda _: torch.randn_like(context[: len(places)]), self.config.sampling_steps
        )
        self.denoiser.train(self.training)
        return history.flatten().index_copy(0, places, (found @ vectors.T).argmax(1)).view_as(history)

    def _denoising(
        self, history: Tensor, layout: Layout, vectors: Tensor, denoised: Tensor, t: Tensor
    ) -> Tensor:
        """Cross-entropy of the noised items [B, n] given their noisy vectors and all others."""
        places = denoised.flatten().nonzero().squeeze(1)  # [R] into B·n
        weight, t = (to_device(array.flatten()[places], history.device) for array in (denoised, t))
        where, target = (
            layout.index(to_device(places, history.device)),
            history.flatten()[to_device(places, history.device)],
        )
        context = F.embedding(layout.pack(history), vectors)
        found = self._found(self.diffusion.noised(F.embedding(target, vectors), t), t, context, where, layout)
        return softmax_loss(found * self.config.width**-0.5, vectors, target, weight)

    def _found(self, noisy: Tensor, t: Tensor, context: Tensor, where: Tensor, layout: Layout) -> Tensor:
        """The expected clean vectors [R, D] of the tokens `where` [R] of T, which are `noisy` [R, D], in the `context` [T, D]."""
        tokens = context.index_copy(0, where, (noisy + self.step(t)).to(context.dtype))
        return self.denoiser(tokens, layout, where)
