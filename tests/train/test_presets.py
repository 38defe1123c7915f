"""Presets against what the papers state, written down here once more, with where it stands."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from pipelines.data.catalogue import Catalogue
from pipelines.errors import UserError
from pipelines.models import loading
from pipelines.models.registry import MODELS
from pipelines.models.sid import text_heads as dense
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.configure import configure
from pipelines.train.presets import PRESET_NAMES, PRESETS, preset
from pipelines.train.presets.maskgr import STRONG

# arXiv 2511.23021: what is said → where.
MASKGR = {
    "layers": (8, "section 4.1: an 8-layer encoder-only transformer"),
    "width": (128, "section 4.1: a 128-dimensional embedding"),
    "heads": (8, "section 4.1: 8 attention heads"),
    "mlp": (3072, "section 4.1: a hidden layer size of 3072"),
    "attention": ("full", "section 4.1: encoder-only"),
    "tokens": ("digit", "section 3.1: each of its SID tokens"),
    "likelihood": ("digit", "section 3.1: equation 3, a sum over masked tokens"),
    "optimizer": ("adamw", "appendix A.1"),
    "learning_rate": (0.005, "appendix A.1"),
    "weight_decay": (0.001, "appendix A.1"),
    "batch_size": (8192, "appendix A.1"),
}
# Of it nothing of ours that changes the model or its objective.
NOT_OURS = {
    "centroids": False,
    "item_embeddings": False,
    "repeat_bias": False,
    "negatives": 0,
    "label_smoothing": 0.0,
    "next_item": 0.0,
}
# Silent in the paper; of the authors' released program. Counted in steps.
RELEASED = {"dropout": 0.25, "windows": "last", "decay_shape": "linear", "final_rate": 0.3, "decay": 1.0}
WARMUP, PATIENCE = 10_000, 50_000

# Of the other models, as their publications state them for Beauty: model → option → value.
OTHERS: dict[str, dict[str, Any]] = {
    # Kang and McAuley 2018, sections III and IV.
    "sasrec": {
        "layers": 2,
        "width": 50,
        "heads": 1,
        "dropout": 0.5,
        "max_items": 50,
        "windows": "last",
        "loss": "bce",
    }
    | {"batch_size": 128, "learning_rate": 0.001, "final_rate": 1.0, "warmup": 0.0},
    # Shin et al. 2024, implementation details, and the authors' command for Beauty.
    "bsarec": {
        "layers": 2,
        "width": 64,
        "heads": 1,
        "dropout": 0.5,
        "max_items": 50,
        "loss": "softmax",
        "negatives": 0,
        "batch_size": 256,
        "learning_rate": 0.0005,
    }
    | {"filter_share": 0.7, "low_frequencies": 5, "weight_decay": 0.0, "final_rate": 1.0, "warmup": 0.0},
    # Sun et al. 2019, section 4.4.
    "bert4rec": {
        "layers": 2,
        "width": 64,
        "heads": 2,
        "max_items": 50,
        "mask_ratio": 0.6,
        "batch_size": 256,
        "learning_rate": 0.0001,
    }
    | {"weight_decay": 0.01, "grad_clip": 5.0, "decay_shape": "linear"},
    # Rajput et al. 2023, "Sequence-to-Sequence Model".
    "tiger": {
        "layers": 4,
        "heads": 6,
        "width": 6 * 64,
        "mlp": 1024,
        "dropout": 0.1,
        "max_items": 20,
        "batch_size": 256,
        "steps": 200_000,
    },
    # Yang et al. 2024: six layers, else TIGER's.
    "liger": {"layers": 6, "heads": 6, "width": 6 * 64, "mlp": 1024, "dropout": 0.1, "batch_size": 256},
    # Yang et al. 2023, section 4.1 and its commands.
    "dreamrec": {
        "width": 64,
        "timesteps": 500,
        "history_dropout": 0.1,
        "ranking": 0.0,
        "vector_length": 0.0,
        "residual": False,
        "batch_size": 256,
    },
    # Cui et al. 2024, for Beauty.
    "cadirec": {
        "layers": 2,
        "width": 64,
        "heads": 2,
        "max_items": 50,
        "batch_size": 256,
        "learning_rate": 0.001,
        "sampling_steps": 5,
    }
    | {"timesteps": 1000, "contrastive": 0.1, "denoising": 0.2, "noise_schedule": "sqrt"},
    # Hou et al. 2025, implementation details and table 6.
    "rpg": {
        "layers": 2,
        "width": 448,
        "heads": 4,
        "mlp": 1024,
        "temperature": 0.03,
        "batch_size": 256,
        "learning_rate": 0.01,
    },
    # Liu et al. 2025, implementation details.
    "diffgrm": {
        "layers": 1,
        "decoder_layers": 4,
        "heads": 4,
        "mlp": 1024,
        "label_smoothing": 0.1,
        "batch_size": 1024,
    }
    | {"noising": "on-policy", "validation_beams": 32},
}


def paper(model: str) -> dict[str, Any]:
    """Every value of a model's preset `paper`, defaults included."""
    model_settings, train = configure(model, "paper", {})
    return dataclasses.asdict(model_settings) | dataclasses.asdict(train)


@pytest.mark.parametrize("model", ["maskgr", "maskgr-items"])  # section 4.5: MaskGR's framework over item ids
def test_the_paper_s_own_model(model: str) -> None:
    found = paper(model)
    stated = {name: value for name, (value, _) in MASKGR.items()} | NOT_OURS | RELEASED
    assert {name: found[name] for name in stated if name in found} == {
        name: stated[name] for name in stated if name in found
    }
    assert found["warmup"] * found["steps"] == WARMUP
    assert found["patience"] * found["steps"] / found["validations"] == PATIENCE
    assert found["steps"] > 2 * PATIENCE  # so late that patience comes first
    assert (found["horizon"], found["drop_items"], found["validation_users"]) == (1, 0.0, 0)


def test_the_paper_s_model_has_its_number_of_parameters() -> None:
    """Section 4.1: "The total number of parameters in our model is 7M", with five digits of 256 codes."""
    model_settings, _ = configure("maskgr", "paper", {})
    sids = np.random.default_rng(0).integers(0, 256, (300, 5))
    model = loading.build(model_settings, Catalogue.of(sids, 256))
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6) == 7


def test_semantic_ids_are_the_paper_s() -> None:
    """Section 4.1: residual k-means with four layers, each having a codebook size of 256, and a token that
    tells equal ones apart.
    """
    assert (TokenizeConfig().method, TokenizeConfig().num_levels, TokenizeConfig().codebook) == (
        "kmeans",
        4,
        256,
    )


def test_dense_retrieval_is_the_paper_s() -> None:
    """Section 4.6: after the 4th layer, an MLP with a hidden dimension of 256 and weights of rank 32, β =
    0.2.
    """
    model_settings, _ = configure("maskgr", "paper", {"dense": True})
    assert model_settings.dense_depth == 4
    head = dense.DenseHead(model_settings, 5, np.ones((7, 4096), np.float32))
    shapes = [tuple(weight.shape) for weight in head.leave.parameters() if weight.ndim == 2]
    assert shapes == [(32, 5 * 128), (256, 32), (32, 256), (4096, 32)]
    text = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    catalogue = dataclasses.replace(
        Catalogue.of(np.random.default_rng(0).integers(0, 256, (300, 5)), 256), text=text
    )
    model = loading.build(dataclasses.replace(model_settings, layers=4, mlp=8), catalogue)
    items = np.tile(np.arange(10), (4000, 1))
    _, weights = model.make_training_batch(items, np.random.default_rng(1))[:2]
    masked = weights.reshape(4000, 10, 5) > 0
    together = (
        (masked.all(2) == masked.any(2)).all(1).mean()
    )  # of sequences; by chance too where all or no digits are masked
    assert together == pytest.approx(0.2 + 0.8 * 2 / 51, abs=0.03)


@pytest.mark.parametrize("model", OTHERS)
def test_the_other_models_are_as_published(model: str) -> None:
    found = paper(model)
    assert {name: found[name] for name in OTHERS[model]} == OTHERS[model]


def test_every_model_is_transcribed() -> None:
    of_ours = {name for name, config in MODELS.items() if config.is_counted}
    assert {*OTHERS, "maskgr", "maskgr-items"} == set(MODELS) - of_ours


@pytest.mark.parametrize("model", MODELS)
def test_every_preset_ends_by_steps_alone(model: str) -> None:
    further = {STRONG} if model == "maskgr" else set()
    assert set(PRESETS[model]) == {*PRESET_NAMES, *further}
    for name in PRESETS[model]:
        model_settings, schedule = configure(model, name, {})
        assert model_settings.name == model
        assert (schedule.steps, schedule.minutes) == (PRESETS[model][name]["steps"], None)
        if model_settings.is_counted:
            assert (schedule.steps, schedule.validations) == (1, 1)
        elif name != "smoke":
            assert 0 < schedule.patience < schedule.validations
            assert schedule.patience >= 3  # a validation or two without a better one say little
        json.dumps(PRESETS[model][name])
    with pytest.raises(UserError, match=f"'large' is none of --model {model}; choose paper, small"):
        preset(model, "large")
