"""Presets of the other models over semantic IDs."""

from __future__ import annotations

from typing import Any

from pipelines.train.presets.shared import SMALL, SMOKE

# TIGER (Rajput et al. 2023, "Sequence-to-Sequence Model").
# Stated: 4 + 4 layers, 6 heads of width 64, MLP 1024, dropout 0.1, histories of 20 items, batches of 256,
# 200,000 steps. Heads share the width here, so the width is 384 instead of 128 (14 M parameters; about 13 M
# as published). Their items have four digits: --sids 3.
# Schedule: the learning rate stays at its peak for 10,000 steps. Then it falls, by a cosine, to the value
# that their decay by the inverse square root of the step reaches. The peak is a tenth of theirs, which is
# 0.01: they train with T5X, whose optimizer measures updates relative to a parameter's size, and AdamW learns
# far less at 0.01.
# From MaskGR: the end by validation (appendix A.1: "all experiments") and the patience.
TIGER: dict[str, Any] = {
    "layers": 4,
    "width": 384,
    "heads": 6,
    "mlp": 1024,
    "dropout": 0.1,
    "max_items": 20,
    "batch_size": 256,
    "learning_rate": 0.001,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "decay": 0.95,
    "final_rate": 0.22,
    "steps": 200_000,
    "validations": 200,
    "patience": 50,
}

TIGER_SMALL: dict[str, Any] = {
    **SMALL,
    "layers": 1,
    "mlp": 256,
    "dropout": 0.1,
    "max_items": 10,
    "batch_size": 128,
    "optimizer": "muon",
    "learning_rate": 0.01,
    "steps": 4000,
    "validations": 4,  # by beam search: the fewest users that still tell better weights from worse
    "validation_users": 1000,
}

SID_MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "tiger": {"paper": TIGER, "small": TIGER_SMALL, "smoke": SMOKE},
    # Yang et al. 2024 (arXiv 2411.18814). Stated: six layers instead of TIGER's four, the same heads. The
    # other values are assumed to be TIGER's.
    "liger": {"paper": {**TIGER, "layers": 6}, "small": {**TIGER_SMALL, "steps": 3200}, "smoke": SMOKE},
    "rpg": {
        # Hou et al. 2025, implementation details and table 6, as reported by accounts of the paper.
        # Stated: two blocks, width 448, MLP 1,024, 4 heads, batches of 256, up to 150 epochs (88 steps each
        # on Beauty, here), an end after 20 validations without a better one. For Beauty they chose, by
        # search: learning rate 0.01, τ = 0.03, and 32 digits (a property of the semantic IDs).
        # Ours: the rest.
        "paper": {
            "layers": 2,
            "width": 448,
            "heads": 4,
            "mlp": 1024,
            "temperature": 0.03,
            "max_items": 50,
            "batch_size": 256,
            "learning_rate": 0.01,
            "steps": 13_200,
            "validations": 150,
            "patience": 20,
        },
        "small": {
            **SMALL,
            "layers": 2,
            "heads": 2,
            "mlp": 256,
            "dropout": 0.2,
            "temperature": 0.07,
            "batch_size": 64,
            "optimizer": "muon",
            "learning_rate": 0.003,
            "steps": 6400,
        },
        "smoke": SMOKE,
    },
    "diffgrm": {
        # Liu et al. 2025, implementation details, as reported by accounts of the paper.
        # Stated: an encoder of one block and a decoder of four, MLP 1,024, 4 heads, four digits and as many
        # views, label smoothing 0.1 on Beauty, batches of 1,024 prefixes, up to 100 epochs (129 steps each on
        # Beauty, here), 32 beams in validation. Width and learning rate vary by data set; these are the
        # values for Sports.
        "paper": {
            "layers": 1,
            "decoder_layers": 4,
            "width": 256,
            "heads": 4,
            "mlp": 1024,
            "max_items": 50,
            "label_smoothing": 0.1,
            "batch_size": 1024,
            "learning_rate": 0.003,
            "steps": 12_900,
            "validations": 100,
            "validation_beams": 32,
            "patience": 20,
        },
        "small": {
            **SMALL,
            "layers": 1,
            "decoder_layers": 2,
            "views": 2,
            "dropout": 0.1,
            "batch_size": 64,
            "optimizer": "muon",
            "learning_rate": 0.003,
            "steps": 3200,
            "validations": 4,
            "validation_users": 1000,
        },
        "smoke": {**SMOKE, "decoder_layers": 1},
    },
}
