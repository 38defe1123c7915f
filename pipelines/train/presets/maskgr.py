"""Presets of MaskGR."""

from __future__ import annotations

from typing import Any

from pipelines.train.presets.shared import MASKGR, SMALL, SMOKE

STRONG = "strong"  # a preset of maskgr alone (pipelines/train/strong.py)

# Ours: the variants that learn more in a few minutes (docs/results.md). Validation is flat from
# step 1,300 on (benchmarks/results/small: curves.parquet); 1,800 steps take about four minutes on one
# AVX-512 core.
MASKGR_SMALL: dict[str, Any] = {
    **SMALL,
    "attention": "prefix",
    "tokens": "item",
    "likelihood": "item",
    "centroids": True,
    "item_embeddings": True,
    "layers": 2,
    "width": 64,
    "dropout": 0.3,
    "label_smoothing": 0.1,
    "repeat_bias": True,
    "whole_item": 0.9,
    "dense_vectors": "learned",  # both with --dense (docs/training.md, "Dense retrieval")
    "dense_loss": 0.1,
    "batch_size": 128,
    "optimizer": "muon",
    "learning_rate": 0.01,
    "steps": 1800,
    "validations": 6,
    "validation_users": 0,
}

# Ours: soft targets regularize a student, so that it needs less dropout and no label smoothing. On Beauty it
# is as accurate with those of `small`, but learns more slowly and recommends fewer of the items
# (docs/results.md, "Students").
MASKGR_STRONG: dict[str, Any] = {
    **MASKGR_SMALL,
    "dropout": 0.1,
    "label_smoothing": 0.0,
    "steps": 3600,
    "distill": "teachers",  # stands for their names, which they get when their settings are known
}

MASKGR_PRESETS: dict[str, dict[str, Any]] = {
    "paper": MASKGR,
    "small": MASKGR_SMALL,
    STRONG: MASKGR_STRONG,
    "smoke": SMOKE,
}
