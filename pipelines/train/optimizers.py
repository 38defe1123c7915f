"""Optimizers by name: AdamW, as in the paper, or Muon for the matrices of the blocks."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from pipelines.train.config import TrainConfig


def optimizers(model: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """Build the optimizers of a model whose transformer blocks lie in lists called `blocks`.

    "adamw" updates all parameters with AdamW, without weight decay on vectors. "muon" updates each matrix of
    the blocks with Muon (Jordan et al. 2024), which orthogonalizes the update; AdamW updates embeddings,
    heads and vectors. The updates of Muon are scaled to the size of AdamW's updates, so that one learning
    rate serves both.

    Returns:
        AdamW and, where Muon has parameters, Muon. Every parameter belongs to exactly one of them.
    """
    muon_matrices = [
        parameter
        for name, parameter in model.named_parameters()
        if config.optimizer == "muon" and parameter.ndim == 2 and ".blocks." in name
    ]
    muon_ids = {id(parameter) for parameter in muon_matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in muon_ids]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    result: list[Optimizer] = [AdamW(groups, lr=config.learning_rate, fused=True)]
    if muon_matrices:
        result.append(
            Muon(
                muon_matrices,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return result
