"""Every parameter has exactly one optimiser, and Muon only matrices of the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from torch.optim import AdamW, Muon

from pipelines.data.catalogue import Catalogue
from pipelines.models import loading
from pipelines.train.optimizers import optimizers
from tests.train.conftest import SIZES, plan


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_updated_once(name: str) -> None:
    model = loading.build(SIZES, Catalogue.of(np.array([[0, 1], [1, 0]]), 2))
    made = optimizers(model, plan("none", optimizer=name).train)
    names = {id(p): n for n, p in model.named_parameters()}
    taken = [[names[id(p)] for group in o.param_groups for p in group["params"]] for o in made]
    assert sorted(sum(taken, [])) == sorted(names.values())
    assert [type(o) for o in made] == ([AdamW, Muon] if name == "muon" else [AdamW])
    if name == "muon":
        assert taken[1] == [f"encoder.blocks.0.{layer}.weight" for layer in ("qkv", "out", "up", "down")]
    for group in made[0].param_groups:
        assert all((p.ndim < 2) == (group["weight_decay"] == 0) for p in group["params"])
