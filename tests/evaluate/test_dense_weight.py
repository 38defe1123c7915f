"""The weight of the dense score in unified retrieval, chosen on validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.data.splits import Split
from pipelines.decode.config import Decoding
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.dense_weight import WEIGHTS, choose_dense_weight
from pipelines.evaluate.recommend import recommend
from pipelines.evaluate.run import evaluate_run
from pipelines.models import loading
from pipelines.models.registry import model_config
from pipelines.models.sid_models.maskgr import MaskGR
from pipelines.train.derived import final_plan
from pipelines.train.run import train_run
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan
from tests.train.test_dense import sids  # noqa: F401 - a fixture

N, H, V = 60, 2, 8
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)
TEXT = np.random.default_rng(1).normal(size=(N, 10)).astype(np.float32)


def build(seed: int) -> MaskGR:
    torch.manual_seed(seed)
    settings = {"layers": 2, "width": 16, "heads": 2, "mlp": 32, "dropout": 0.0, "max_items": 6}
    config = model_config("maskgr", {**settings, "dense": True})
    return loading.build(config, Catalogue.of(SIDS, V, TEXT)).eval()


def drawn_users(count: int = 200) -> Split:
    rng = np.random.default_rng(2)
    return Split(
        rng.integers(N, size=3 * count).astype(np.int32),
        np.arange(0, 3 * count + 1, 3),
        np.arange(count, dtype=np.int32),
        rng.integers(N, size=(count, 1)).astype(np.int32),
    )


def gains(model: MaskGR, users: Split, weight: float) -> float:
    """Return the sum over users of NDCG@10 by the ranking of unified retrieval itself."""
    decoding = resolve_decoding(Decoding(retrieval="unified", dense_weight=weight), model)
    found = recommend(model, users, PartialIndex(SIDS, V), decoding, ListProgress()).items[:, :10, 0]
    total = 0.0
    for row, target in zip(found.tolist(), users.first_target.tolist(), strict=True):
        total += 1 / np.log2(row.index(target) + 2) if target in row else 0.0
    return total


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_weight_is_found(seed: int) -> None:
    model, users = build(seed), drawn_users()
    by_weight = [gains(model, users, float(weight)) for weight in WEIGHTS]
    chosen = choose_dense_weight(model, users, PartialIndex(SIDS, V), ListProgress())
    assert by_weight[WEIGHTS.tolist().index(chosen)] == pytest.approx(max(by_weight))
    assert len({round(value, 6) for value in by_weight}) > 3, "weights that make a difference"


def test_a_run_decodes_with_its_own_weight(
    toy: Workspace,
    sids: str,  # noqa: F811
    progress: ListProgress,
) -> None:
    settings = {"layers": 2, "width": 32, "mlp": 64, "dense": True}
    run = train_run(toy, plan(sids, steps=20, **settings), progress, name="run")
    recorded = artifacts.read_json(run.config)["dense_weight"]
    assert f"Unified retrieval: a weight of {recorded:g} of the dense score" in "\n".join(progress.messages)
    own = evaluate_run(toy, run, EvalConfig(Decoding(retrieval="unified"), precision="fp32"), progress)
    stated = Decoding(retrieval="unified", dense_weight=recorded)
    assert own.folder == evaluate_run(toy, run, EvalConfig(stated, precision="fp32"), progress).folder
    values = artifacts.read_json(run.config)
    artifacts.write_json(run.config, {**values, "dense_weight": 0.35})
    other = evaluate_run(toy, run, EvalConfig(Decoding(retrieval="unified"), precision="fp32"), progress)
    assert other.folder.name.endswith("-d0.35")
    final = train_run(toy, final_plan(toy, run), progress, name="whole")
    assert artifacts.read_json(final.config)["dense_weight"] == 0.35


def test_a_model_without_dense_scores_takes_no_weight(
    toy: Workspace,
    sids: str,  # noqa: F811
    progress: ListProgress,
) -> None:
    run = train_run(toy, plan(sids, steps=2, validations=1), progress, name="bare")
    assert "dense_weight" not in artifacts.read_json(run.config)
    with pytest.raises(UserError, match="--dense-weight 0.5 needs --retrieval unified"):
        Decoding(dense_weight=0.5)
    stated = Decoding(retrieval="unified", dense_weight=0.5)
    with pytest.raises(UserError, match="--dense-weight has no effect on this run of --model maskgr"):
        evaluate_run(toy, run, EvalConfig(stated), progress)
