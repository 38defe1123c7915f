"""Every parameter has exactly one optimizer: Muon matrices of the blocks alone, SparseAdamW item tables."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from torch.optim import AdamW, Muon

from pipelines.data.catalogue import Catalogue
from pipelines.models import loading
from pipelines.train.optimizers import SparseAdamW, optimizers
from tests.train.conftest import SIZES, plan

SAMPLED = {"tokens": "item", "likelihood": "item", "item_embeddings": True, "negatives": 2}


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("settings", [{}, SAMPLED])
def test_every_parameter_is_updated_once(name: str, settings: dict) -> None:
    sizes = dataclasses.replace(SIZES, **settings)
    model = loading.build(sizes, Catalogue.of(np.array([[0, 1], [1, 0]]), 2))
    made = optimizers(model, plan("none", optimizer=name).train)
    names = {id(p): n for n, p in model.named_parameters()}
    taken = [[names[id(p)] for group in o.param_groups for p in group["params"]] for o in made]
    assert sorted(sum(taken, [])) == sorted(names.values())
    kinds = [AdamW, *[Muon] * (name == "muon"), *[SparseAdamW] * bool(settings)]
    assert [type(o) for o in made] == kinds
    if settings:
        assert taken[-1] == ["item_embedding.weight"]
    if name == "muon":
        assert taken[1] == [f"encoder.blocks.0.{layer}.weight" for layer in ("qkv", "out", "up", "down")]
    for group in made[0].param_groups:
        assert all((p.ndim < 2) == (group["weight_decay"] == 0) for p in group["params"])


def sparse(rows: list[int], values: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, size, check_invariants=True)


def test_where_every_row_is_touched_the_result_is_that_of_adamw() -> None:
    """Rows may come in any order, and in parts that add up."""
    torch.manual_seed(0)
    dense, table = (torch.nn.Parameter(torch.ones(4, 3)) for _ in range(2))
    one = AdamW([dense], lr=0.1, weight_decay=0.5)
    other = SparseAdamW([table], lr=0.1, weight_decay=0.5)
    for _ in range(5):
        dense.grad = torch.randn(4, 3)
        half = dense.grad[[2, 0, 3, 1]] / 2
        table.grad = sparse([2, 0, 3, 1] * 2, torch.cat((half, half)), table.shape)
        one.step()
        other.step()
        torch.testing.assert_close(table, dense)


def test_a_row_that_rests_keeps_value_and_moments() -> None:
    """A row is touched in some steps. Its moments are those of these steps alone, without decay in between;
    the bias correction counts all steps.
    """
    rate, decay, eps, betas = 0.1, 0.5, 1e-8, (0.9, 0.999)
    table = torch.nn.Parameter(torch.full((3, 1), 2.0))
    optimizer = SparseAdamW([table], lr=rate, weight_decay=decay)
    touched, gradients = {1: [0], 2: [1], 3: [1], 4: [0, 1]}, {1: 0.5, 2: -1.0, 3: 0.25, 4: 2.0}
    value, first, second = [2.0] * 3, [0.0] * 3, [0.0] * 3
    for step, rows in touched.items():
        table.grad = sparse(rows, torch.full((len(rows), 1), gradients[step]), table.shape)
        optimizer.step()
        for row in rows:
            value[row] *= 1 - rate * decay
            first[row] = betas[0] * first[row] + (1 - betas[0]) * gradients[step]
            second[row] = betas[1] * second[row] + (1 - betas[1]) * gradients[step] ** 2
            corrected = first[row] / (1 - betas[0] ** step), second[row] / (1 - betas[1] ** step)
            value[row] -= rate * corrected[0] / (corrected[1] ** 0.5 + eps)
        state = optimizer.state[table]
        moments = zip(("exp_avg", "exp_avg_sq"), (first, second), strict=True)
        for (name, expected), row in product(moments, range(3)):
            assert state[name][row].item() == pytest.approx(expected[row], rel=1e-5)
        assert table.detach().flatten().tolist() == pytest.approx(value, rel=1e-4)
    assert table[2].item() == 2.0
