"""The presets of every model: the values that differ from the defaults of its configuration and of TrainConfig, by field name.

Every preset ends by steps, so that a seed gives the same run on a fast machine and on a slow one, and `paper` and `small` end earlier
where validation says so.
"""

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

# A coffee on a CPU: what all models have in common. Where nothing else is said, a model's steps are those that eight minutes on one
# AVX-512 core came to on Beauty (benchmarks/results/table1-small, others-small and dreamrec-small: curves.parquet). The learning rate
# falls to 0 at the last of them and validation mostly rises until then, so patience is long: three validations of eight. Of all curves
# in benchmarks/results it would have ended three earlier, and taken the best weights of none.
SMALL: dict[str, Any] = {
    "width": 128,
    "heads": 4,
    "mlp": 512,
    "max_items": 50,
    "batch_size": 256,
    "weight_decay": 0.01,
    "validations": 8,
    "validation_users": 5000,
    "patience": 3,
}

# What MaskGR's paper states (section 4.1, appendix A.1) are the defaults. It stops "early using validation recall@10" and is silent on
# dropout, schedule, patience and steps: here they are those of the authors' released program, which warms up for 10,000 steps, falls in
# a line to 0.3 of the peak, waits 50,000 steps for a better validation and trains on the last items of long histories. Ours: where the
# fall ends, a bound so late that patience comes first; a validation every 1,000 steps; gradients clipped at norm 1; 24 items of history.
# The program also brings residuals to unit length before each layer of k-means, which semantic IDs decide, not training:
# `maskgr tokenize --unit-residuals`, and its name for `maskgr train --semantic-ids`.
MASKGR: dict[str, Any] = {
    "dropout": 0.25,
    "windows": "last",
    "steps": 200_000,
    "warmup": 0.05,
    "decay_shape": "linear",
    "final_rate": 0.3,
    "validations": 200,
    "patience": 50,
}

# Rajput et al. 2023, "Sequence-to-Sequence Model": 4 + 4 layers, 6 heads of 64, MLP 1024, dropout 0.1, histories of 20, batches of 256,
# 200,000 steps. Heads share the width here, so it is 384 in place of 128 (14 M parameters, about 13 M as published). The learning rate
# stays at its peak for 10,000 steps and falls by a cosine to where theirs comes with the inverse square root of the step. Its peak is
# theirs, 0.01, over ten: they train with T5X, whose optimiser counts in parts of a parameter's size, and AdamW learns far less at 0.01.
# The end by validation is MaskGR's (appendix A.1: "all experiments"), and so is its patience. Their items have four digits: --sids 3.
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
    "validations": 4,  # by beams: as few users as still tell better weights from worse
    "validation_users": 1000,
}

# Adam as the older publications have it.
CONSTANT_RATE: dict[str, Any] = {"warmup": 0.0, "final_rate": 1.0, "grad_clip": 0.0}

CLOZE_SMALL: dict[str, Any] = {
    **SMALL,
    "layers": 2,
    "heads": 2,
    "mlp": 256,
    "dropout": 0.3,
    "repeat_bias": True,
    "next_item": 0.3,
    "batch_size": 128,
    "optimizer": "muon",
    "learning_rate": 0.006,
    "steps": 4300,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "maskgr": {
        "paper": MASKGR,
        # The variants of ours that learn more in a few minutes (README, "Figures"). Validation is flat from 1,300 steps on
        # (benchmarks/results/small: curves.parquet); 1,800 take about four minutes of one AVX-512 core.
        "small": {
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
            "batch_size": 128,
            "optimizer": "muon",
            "learning_rate": 0.01,
            "steps": 1800,
            "validations": 6,
            "validation_users": 0,
        },
        "smoke": SMOKE,
    },
    "sasrec": {
        # Kang and McAuley 2018, sections III and IV: two blocks, d = 50, one head, the last 50 items of a history, dropout 0.5 on sparse
        # data, Adam 0.001 with batches of 128, one negative. On MovieLens 1M it is the last 200 items and dropout 0.2: --max-items 200
        # --dropout 0.2. They end after 20 epochs without a better validation, here after 10,000 steps (57 epochs on Beauty).
        "paper": {
            "loss": "bce",
            "layers": 2,
            "width": 50,
            "heads": 1,
            "mlp": 50,
            "dropout": 0.5,
            "max_items": 50,
            "windows": "last",
            "batch_size": 128,
            "learning_rate": 0.001,
            "weight_decay": 0.0,
            **CONSTANT_RATE,
            "steps": 100_000,
            "validations": 200,
            "patience": 20,
        },
        "small": {
            **SMALL,
            "layers": 2,
            "heads": 2,
            "mlp": 256,
            "dropout": 0.5,
            "label_smoothing": 0.1,
            "repeat_bias": True,
            "optimizer": "muon",
            "learning_rate": 0.006,
            "weight_decay": 0.1,
            "steps": 1600,
        },
        "smoke": SMOKE,
    },
    "bert4rec": {
        # Sun et al. 2019, section 4.4: two blocks, d = 64, two heads, histories of 50 and ρ = 0.6 on Beauty (200 and 0.2 on MovieLens
        # 1M: --max-items 200 --mask-ratio 0.2), Adam 0.0001 with linear decay, weight decay 0.01, gradients clipped at 5, batches of
        # 256. MaskGR's paper (section 4.5) says ρ = 0.15 of it. They also train on sequences of which the last item alone is masked
        # (section 3.6), without a share; here a tenth is cut at a random item, only that one masked. Patience and dropout are ours.
        "paper": {
            "layers": 2,
            "width": 64,
            "heads": 2,
            "mlp": 256,
            "dropout": 0.1,
            "max_items": 50,
            "mask_ratio": 0.6,
            "next_item": 0.1,
            "decay_shape": "linear",
            "batch_size": 256,
            "learning_rate": 0.0001,
            "weight_decay": 0.01,
            "grad_clip": 5.0,
            "steps": 400_000,
            "validations": 200,
            "patience": 20,
        },
        "small": CLOZE_SMALL,
        "smoke": SMOKE,
    },
    "maskgr-items": {
        # Table 2: the paper's model with item ids in place of semantic IDs; its sizes and optimiser are those of MaskGR.
        "paper": MASKGR,
        "small": {
            **CLOZE_SMALL,
            "steps": 4000,
        },  # it still learns then: 16,600 in half an hour (benchmarks/results/plateau-small)
        "smoke": SMOKE,
    },
    "tiger": {"paper": TIGER, "small": TIGER_SMALL, "smoke": SMOKE},
    # Yang et al. 2024 (arXiv 2411.18814): six layers in place of four, the same heads; what else they trained with is taken to be TIGER's.
    "liger": {"paper": {**TIGER, "layers": 6}, "small": {**TIGER_SMALL, "steps": 3200}, "smoke": SMOKE},
    "dreamrec": {
        # Yang et al. 2023, section 4.1: D = 64, guidance away from a tenth, T from 50 to 2,000 and w from 0 to 10 by data set; their
        # commands take T = 500 (2,000 on KuaiRec), w = 2 (4 on Zhihu; an option of evaluation: `eval --guidance 2`), AdamW and rates from
        # 0.00005 to 0.01. Histories of 10, one block with one head and batches of 256 are the released program's. MaskGR's paper
        # (section 4.1) says 1,000 steps of it; where the two differ these are DreamRec's own. Steps and patience are ours.
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
            **CONSTANT_RATE,
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
            "repeat_bias": True,
            "optimizer": "muon",
            "learning_rate": 0.003,
            "steps": 1800,
        },
        "smoke": {**SMOKE, "ranking": 1.0, "vector_length": 0.3, "residual": True},
    },
    "cadirec": {
        # Cui et al. 2024; the sizes, rate, weights and 5 of 1,000 steps (MaskGR's paper, section 4.1: 1,000) are the authors' settings
        # for Beauty. They name a pairwise loss with one negative for the recommendation; bce is ours with one. Patience is ours.
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
            **CONSTANT_RATE,
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
            "repeat_bias": True,
            "sampling_steps": 1,
            "temperature": 10.0,
            "micro_tokens": 4096,
            "optimizer": "muon",
            "learning_rate": 0.003,
            "steps": 1100,  # where validation stopped rising in half an hour (benchmarks/results/plateau-small)
        },
        "smoke": {**SMOKE, "temperature": 5.0},
    },
    "rpg": {
        # Hou et al. 2025, implementation details and table 6, as accounts of the paper report them: two blocks, width 448, MLP 1,024,
        # 4 heads, batches of 256, up to 150 epochs (here of 88 steps, on Beauty), the end after 20 without a better validation; of what
        # was searched for Beauty learning rate 0.01, τ 0.03, and 32 digits, which the semantic IDs decide. The rest is ours.
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
        # Liu et al. 2025, implementation details, as accounts of the paper report them: an encoder of one block and a decoder of four,
        # MLP 1,024, 4 heads, four digits and as many views, label smoothing 0.1 on Beauty, batches of 1,024 prefixes, up to 100 epochs
        # (here of 129 steps, on Beauty), 32 beams in validation. Width and learning rate, which vary by data set, are those for Sports.
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
