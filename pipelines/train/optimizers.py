"""Optimizers by name: AdamW, as in the paper, or Muon for the matrices of the blocks; and AdamW for tables of
which a step touches some rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer, SparseAdam

from pipelines.train.config import TrainConfig


class SparseAdamW(SparseAdam):
    """AdamW for tables with sparse gradients.

    A step changes the rows that have a gradient, and leaves parameter and moments of the other rows as they
    are: their moments do not decay, and they have no weight decay. The bias correction counts all steps.
    Where every row has a gradient, the result is that of AdamW.
    """

    def __init__(self, tables: list[Tensor], lr: float, weight_decay: float) -> None:
        """
        Args:
            tables: parameters [rows, D].
            lr: learning rate.
            weight_decay: weight decay, decoupled from the moments (Loshchilov and Hutter 2019, arXiv
                1711.05101).
        """
        super().__init__([{"params": tables, "weight_decay": weight_decay}], lr=lr)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Do one step."""
        for group in self.param_groups:
            kept = 1 - group["lr"] * group["weight_decay"]
            for table in group["params"]:
                if table.grad is not None:
                    table.grad = table.grad.coalesce()
                    rows = table.grad.indices()[0]
                    table.index_copy_(0, rows, table[rows] * kept)
        super().step()  # type: ignore[no-untyped-call]


def sparse_tables(model: nn.Module) -> dict[str, Tensor]:
    """Return the tables of a model whose gradients are sparse, by the names of their parameters."""
    modules = model.named_modules()
    return {f"{name}.weight": part.weight for name, part in modules if getattr(part, "sparse", False)}


def optimizers(model: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """Build the optimizers of a model whose transformer blocks lie in lists called `blocks`.

    "adamw" updates all parameters with AdamW, without weight decay on vectors. "muon" updates each matrix of
    the blocks with Muon (Jordan et al. 2024), which orthogonalizes the update; AdamW updates embeddings,
    heads and vectors. The updates of Muon are scaled to the size of AdamW's updates, so that one learning
    rate serves both. Tables with sparse gradients have `SparseAdamW`.

    Returns:
        AdamW and, where they have parameters, Muon and SparseAdamW. Every parameter belongs to exactly one of
        them.
    """
    muon_matrices = [
        parameter
        for name, parameter in model.named_parameters()
        if config.optimizer == "muon" and parameter.ndim == 2 and ".blocks." in name
    ]
    tables = list(sparse_tables(model).values())
    apart = {id(parameter) for parameter in (*muon_matrices, *tables)}
    others = [parameter for parameter in model.parameters() if id(parameter) not in apart]
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
    if tables:
        result.append(SparseAdamW(tables, config.learning_rate, config.weight_decay))
    return result
