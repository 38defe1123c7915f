"""The presets of every model: the values that differ from the defaults of its configuration and of TrainConfig, by field name."""

from __future__ import annotations

from typing import Any

from pipelines.errors import UserError

PRESET_NAMES = ("paper", "small", "smoke")

# Seconds, to see that everything runs.
SMOKE: dict[str, Any] = {
    "layers": 1,
    "width": 32,
    "heads": 2,
    "mlp": 64,
    "dropout": 0.0,
    "max_items": 20,
    "steps": 300,
    "batch_size": 64,
    "learning_rate": 0.01,
    "validations": 3,
    "validation_users": 500,
}

# A coffee on a CPU: what all models have in common.
SMALL: dict[str, Any] = {
    "width": 128,
    "heads": 4,
    "mlp": 512,
    "max_items": 50,
    "minutes": 6.0,
    "batch_size": 256,
    "weight_decay": 0.01,
    "validations": 8,
    "validation_users": 5000,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "maskgr": {
        # Paper, section 4.1 and appendix A.1: the defaults. The paper trains until validation stops improving.
        "paper": {"steps": 30_000, "validations": 150, "patience": 15},
        # The variants of ours that learn more in a few minutes (README, "Figures").
        "small": {
            **SMALL,
            "attention": "prefix",
            "tokens": "item",
            "likelihood": "item",
            "item_embeddings": True,
            "layers": 3,
            "dropout": 0.4,
            "label_smoothing": 0.1,
            "whole_item": 0.9,
            "optimizer": "muon",
            "learning_rate": 0.003,
        },
        "smoke": SMOKE,
    },
    "sasrec": {
        # Kang and McAuley 2018, section IV: two blocks, d = 50, one head, histories of 50, dropout 0.5 on sparse data, Adam 0.001
        # with batches of 128, one negative. They train until validation stops improving.
        "paper": {
            "loss": "bce",
            "layers": 2,
            "width": 50,
            "heads": 1,
            "mlp": 50,
            "dropout": 0.5,
            "max_items": 50,
            "batch_size": 128,
            "learning_rate": 0.001,
            "weight_decay": 0.0,
            "warmup": 0.0,
            "final_rate": 1.0,
            "clip": 0.0,
            "steps": 100_000,
            "validations": 200,
            "patience": 20,
        },
        "small": {**SMALL, "layers": 2, "heads": 2, "mlp": 256, "dropout": 0.4, "learning_rate": 0.001},
        "smoke": SMOKE,
    },
    "bert4rec": {
        # Sun et al. 2019, section 4.4: two blocks, d = 64, two heads, histories of 50 on Beauty, ρ = 0.6, Adam 0.0001 with linear
        # decay, weight decay 0.01, batches of 256.
        "paper": {
            "layers": 2,
            "width": 64,
            "heads": 2,
            "mlp": 256,
            "dropout": 0.1,
            "max_items": 50,
            "mask_ratio": 0.6,
            "batch_size": 256,
            "learning_rate": 0.0001,
            "weight_decay": 0.01,
            "clip": 5.0,
            "steps": 400_000,
            "validations": 200,
            "patience": 20,
        },
        "small": {**SMALL, "layers": 2, "heads": 2, "mlp": 256, "dropout": 0.3, "next_item": 0.5, "learning_rate": 0.001},
        "smoke": SMOKE,
    },
    "maskgr-items": {
        # Table 2: the paper's model with item ids in place of semantic IDs; its sizes and optimiser are those of MaskGR.
        "paper": {"steps": 30_000, "validations": 150, "patience": 15},
        "small": {**SMALL, "layers": 2, "heads": 2, "mlp": 256, "dropout": 0.3, "next_item": 0.5, "learning_rate": 0.001},
        "smoke": SMOKE,
    },
    "dreamrec": {
        # Yang et al. 2023, section 4.1: D = 64, guidance away from a tenth, T from 50 to 2,000 and w from 0 to 10 by data set; their
        # commands take T = 500 (2,000 on KuaiRec), w = 2 (4 on Zhihu: `eval --guidance`), AdamW and rates from 0.00005 to 0.01.
        # Histories of 10, one block with one head and batches of 256 are the released program's.
        "paper": {
            "layers": 1,
            "width": 64,
            "heads": 1,
            "mlp": 64,
            "dropout": 0.1,
            "max_items": 10,
            "timesteps": 500,
            "batch_size": 256,
            "learning_rate": 0.001,
            "weight_decay": 0.01,
            "warmup": 0.0,
            "final_rate": 1.0,
            "clip": 0.0,
            "steps": 100_000,
            "validations": 200,
            "patience": 20,
        },
        "small": {
            **SMALL,
            "layers": 2,
            "heads": 2,
            "mlp": 256,
            "dropout": 0.3,
            "ranking": 1.0,
            "vector_length": 0.3,
            "residual": True,
            "optimizer": "muon",
            "learning_rate": 0.003,
        },
        "smoke": {**SMOKE, "ranking": 1.0, "vector_length": 0.3, "residual": True},
    },
    "cadirec": {
        # Cui et al. 2024; the sizes, rate, weights and 5 of 1,000 steps are the authors' settings for Beauty. They name a pairwise
        # loss with one negative for the recommendation; bce is ours with one.
        "paper": {
            "loss": "bce",
            "layers": 2,
            "width": 64,
            "heads": 2,
            "mlp": 128,
            "dropout": 0.5,
            "max_items": 50,
            "micro_tokens": 16_384,  # all of a step is one forward pass, so that its sequences contrast with each other
            "batch_size": 256,
            "learning_rate": 0.001,
            "weight_decay": 0.0,
            "warmup": 0.0,
            "final_rate": 1.0,
            "clip": 0.0,
            "steps": 35_000,  # 400 epochs
            "validations": 200,
            "patience": 20,
        },
        "small": {
            **SMALL,
            "layers": 2,
            "heads": 2,
            "mlp": 256,
            "dropout": 0.4,
            "sampling_steps": 1,
            "temperature": 10.0,
            "micro_tokens": 4096,
            "optimizer": "muon",
            "learning_rate": 0.003,
        },
        "smoke": {**SMOKE, "temperature": 5.0},
    },
}


def preset(model: str, name: str) -> dict[str, Any]:
    """The values of a model's preset.

    Raises:
        UserError: there is no such model, or it has no preset of that name.
    """
    if model not in PRESETS:
        raise UserError(f"--model {model!r} is unknown; choose {', '.join(PRESETS)}.")
    if name not in PRESETS[model]:
        raise UserError(f"--preset {name!r} is unknown; choose {', '.join(PRESETS[model])}.")
    return dict(PRESETS[model][name])
