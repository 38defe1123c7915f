"""The norm and the scale of dense and sparse gradients together."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from pipelines.train.gradients import Gradients


def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"table": nn.Embedding(6, 3, sparse=True), "linear": nn.Linear(3, 2)})


def backward(parts: nn.ModuleDict, lookups: list[list[int]]) -> None:
    for items in lookups:
        parts["linear"](parts["table"](torch.tensor(items))).square().sum().backward()


@pytest.mark.parametrize("largest", [0.0, 0.5, 1e6])
def test_gradients_are_clipped_as_if_they_were_dense(largest: float) -> None:
    """Rows that are looked up several times, in one pass or in two, count once with the sum."""
    lookups = [[0, 2, 2], [2, 5]]
    sparse, dense = model(), model()
    dense["table"].sparse = False
    backward(sparse, lookups)
    backward(dense, lookups)
    norm = Gradients(sparse, Accelerator(cpu=True)).clip(largest)
    expected = nn.utils.clip_grad_norm_(dense.parameters(), largest or float("inf"))
    torch.testing.assert_close(norm, expected)
    for one, other in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad)
    assert sparse["table"].weight.grad.coalesce().indices().tolist() == [[0, 2, 5]]


def test_a_gradient_that_is_not_finite_shows_in_the_norm() -> None:
    parts = model()
    backward(parts, [[1]])
    parts["table"].weight.grad = parts["table"].weight.grad * torch.inf
    assert not Gradients(parts, Accelerator(cpu=True)).clip(1.0).isfinite()


def test_sparse_tables_are_left_out_of_the_averages_of_dense_gradients() -> None:
    parts = model()
    Gradients(parts, Accelerator(cpu=True))
    assert parts._ddp_params_and_buffers_to_ignore == ["table.weight"]


class AmongTwo:
    """The first of two processes; what the second one sends is given."""

    num_processes = 2

    def __init__(self, *others: torch.Tensor) -> None:
        self._others = iter(others)

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        return torch.cat((own, next(self._others)))


def test_a_row_that_no_process_looks_up_has_no_gradient() -> None:
    """Processes that look up fewer rows fill up what they send; the filling touches no row."""
    parts = model()
    values = torch.ones(1, 3)
    parts["table"].weight.grad = torch.sparse_coo_tensor(
        torch.tensor([[3]]), values, (6, 3), check_invariants=True
    )
    others = torch.tensor([2]), torch.tensor([2, 5]), torch.full((2, 3), 4.0)
    Gradients(parts, AmongTwo(*others)).clip(0.0)
    grad = parts["table"].weight.grad.coalesce()
    assert grad.indices().tolist() == [[2, 3, 5]]
    assert grad.values()[:, 0].tolist() == [2.0, 0.5, 2.0]
