"""Gradients of a step: those of sparse tables over all processes, and their norm together with all others.

DistributedDataParallel averages dense gradients. Its sparse ones work with gloo alone, so that tables with
sparse gradients are left out of it and averaged here. What the processes exchange then grows with the rows
that a step touches, not with the table.

Shapes: q rows touched, D width.
"""

from __future__ import annotations

import math

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipelines.train.optimizers import sparse_tables


class Gradients:
    """Gradients of a model's parameters."""

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        """Take the sparse tables out of DistributedDataParallel; the model is not wrapped by it yet."""
        self._accelerator = accelerator
        tables = sparse_tables(model)
        self._parameters = list(model.parameters())
        self._tables = list(tables.values())
        if tables:
            ignored = model.__dict__.get("_ddp_params_and_buffers_to_ignore", [])
            model.__dict__["_ddp_params_and_buffers_to_ignore"] = [*ignored, *tables]

    def clip(self, largest: float) -> Tensor:
        """Average the sparse gradients over the processes, and scale all gradients together if their norm is
        larger than `largest`; 0 for no limit.

        Returns:
            Norm of all gradients before, a scalar.
        """
        for table in self._tables:
            if self._accelerator.num_processes > 1 or table.grad is not None:
                table.grad = self._averaged(table)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        values = [grad.values() if grad.is_sparse else grad for grad in gradients]
        norm = torch.nn.utils.get_total_norm(values)
        scale = torch.clamp((largest or math.inf) / (norm + 1e-6), max=1.0)
        for value in values:
            value.mul_(scale)
        return norm

    def _averaged(self, table: Tensor) -> Tensor:
        """Return a table's gradient averaged over the processes, sparse and with each row once."""
        count, grad = self._accelerator.num_processes, table.grad
        if grad is None:  # this process touches no row
            grad = torch.sparse_coo_tensor(
                torch.empty((1, 0), dtype=torch.int64), table.new_empty((0, *table.shape[1:])), table.shape
            ).to(table.device)
        grad = grad.coalesce()
        if count == 1:
            return grad
        size = torch.tensor([grad.indices().shape[1]], device=table.device)
        sizes = self._accelerator.gather(size)  # [processes]
        longest = int(sizes.max())
        padded = longest - int(size)
        rows = nn.functional.pad(grad.indices()[0], (0, padded))  # [longest]
        values = nn.functional.pad(grad.values(), (0, 0, 0, padded))  # [longest, D]
        real = (torch.arange(longest, device=table.device) < sizes[:, None]).flatten()  # not padding
        rows, values = self._accelerator.gather(rows)[real], self._accelerator.gather(values)[real]
        return torch.sparse_coo_tensor(rows[None], values / count, table.shape).coalesce()
