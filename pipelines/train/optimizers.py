"""The optimisers by name: AdamW as in the paper, or Muon for the matrices of the blocks."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from pipelines.train.config import TrainConfig


def optimizers(model: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """What updates the parameters of a model whose blocks lie in lists called `blocks`.

    AdamW takes all, without weight decay on vectors. Muon (Jordan et al. 2024) orthogonalises the update of each
    matrix of the blocks and leaves embeddings, heads and vectors to AdamW; its updates are scaled to AdamW's size, so
    that one learning rate serves both.
    """
    hidden = [
        p
        for n, p in model.named_parameters()
        if config.optimizer == "muon" and p.ndim == 2 and ".blocks." in n
    ]
    taken = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    found: list[Optimizer] = [AdamW(groups, lr=config.learning_rate, fused=True)]
    if hidden:
        found.append(
            Muon(
                hidden,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return found
