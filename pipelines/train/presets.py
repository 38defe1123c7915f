"""Presets of every model: the values that differ from the defaults of its configuration and of `TrainConfig`.

Every preset ends after a number of steps, so that a seed gives the same run on a fast machine and on a slow
one. `paper` and `small` end earlier if `patience` validations in a row were no better. Comments say which
values a publication states and which values are ours, meaning chosen by maskgr.
"""

from __future__ import annotations

from typing import Any

from pipelines.errors import UserError

PRESET_NAMES = ("paper", "small", "smoke")  # of every model
STRONG = "strong"  # a further one of maskgr (pipelines/train/strong.py)

# Trains in seconds, to check that everything runs. All values are ours.
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

# Trains in minutes on a CPU; these values are common to all models. All values are ours.
# Unless a comment says otherwise, a model's steps are those that eight minutes on one AVX-512 core took on
# Beauty (benchmarks/results/table1-small, others-small and dreamrec-small: curves.parquet). The learning rate
# falls to 0 at the last step, and validation mostly rises until then. Therefore the patience is long: three
# of eight validations. It would have ended three of all curves in benchmarks/results earlier, each after its
# best weights.
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

# MaskGR (section 4.1, appendix A.1). The values that the paper states are the defaults of the configurations.
# The paper says that training stops "early using validation recall@10"; it does not state dropout, schedule,
# patience or steps.
# From the authors' released program: dropout; a warm-up of 10,000 steps; a linear decay to 0.3 of the peak;
# an end after 50,000 steps without a better validation; training on the last items of long histories.
# Ours: the end of the decay, which is a bound so late that patience comes first; a validation every 1,000
# steps; gradients clipped at norm 1; histories of 24 items.
# The program also scales residuals to unit length before each level of k-means. That belongs to the semantic
# IDs, not to training: make them with `maskgr tokenize --unit-residuals` and give their name to `maskgr train
# --semantic-ids`.
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

# Adam without a schedule and without clipping, as in the older publications.
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

# Co-occurrence is counted in one pass, its only step, whatever the preset. All values are ours; those of the
# model are the defaults of its configuration.
COUNTED: dict[str, Any] = {"max_items": 8, "steps": 1, "validations": 1, "validation_users": 5000}

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

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "maskgr": {
        "paper": MASKGR,
        "small": MASKGR_SMALL,
        STRONG: {**MASKGR_SMALL, "steps": 3600},
        "smoke": SMOKE,
    },
    "sasrec": {
        # Kang and McAuley 2018, sections III and IV.
        # Stated: two blocks, width d = 50, one head, the last 50 items of a history, dropout 0.5 on sparse
        # data, Adam with learning rate 0.001 and batches of 128, one negative. On MovieLens 1M: the last 200
        # items and dropout 0.2 (--max-items 200 --dropout 0.2).
        # The end: after 20 epochs without a better validation as published; here after 10,000 steps, 57
        # epochs on Beauty.
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
    "bsarec": {
        # Shin et al. 2024, implementation details.
        # Stated: two blocks, width 64, histories of 50 items, batches of 256 prefixes, dropout 0.5, Adam with
        # learning rate 0.001 or 0.0005, 1, 2 or 4 heads, α from 0.1 to 0.9, c from 1 to 9.
        # The authors' command for Beauty: learning rate 0.0005, α = 0.7, c = 5, one head.
        # Ours: the end. On Beauty, 514 steps are an epoch; there is a validation in each of 200 at most.
        "paper": {
            "layers": 2,
            "width": 64,
            "heads": 1,
            "mlp": 256,
            "dropout": 0.5,
            "max_items": 50,
            "batch_size": 256,
            "learning_rate": 0.0005,
            "weight_decay": 0.0,
            **CONSTANT_RATE,
            "steps": 102_800,
            "validations": 200,
            "patience": 10,
        },
        # Sizes and dropout as published, the rest ours. 8,000 steps are 16 epochs of Beauty and took 8.4
        # minutes of CPU time; validation rose until the last (docs/results.md).
        "small": {
            **SMALL,
            "layers": 2,
            "width": 64,
            "heads": 1,
            "mlp": 256,
            "dropout": 0.5,
            "label_smoothing": 0.1,
            "repeat_bias": True,
            "optimizer": "muon",
            "learning_rate": 0.003,
            "weight_decay": 0.03,
            "steps": 8000,
        },
        "smoke": SMOKE,
    },
    "bert4rec": {
        # Sun et al. 2019, section 4.4.
        # Stated: two blocks, width d = 64, two heads, histories of 50 items and masking rate ρ = 0.6 on
        # Beauty (on MovieLens 1M, 200 and 0.2: --max-items 200 --mask-ratio 0.2), Adam with learning rate
        # 0.0001 and linear decay, weight decay 0.01, gradients clipped at norm 5, batches of 256. MaskGR's
        # paper (section 4.5) gives ρ = 0.15 for BERT4Rec. They also train on sequences whose last item alone
        # is masked (section 3.6), without stating their share; here a tenth of the sequences is cut at a
        # random item, and only that item is masked.
        # Ours: patience and dropout.
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
        # Table 2 of the paper: its model with item IDs instead of semantic IDs. Sizes and optimizer are those
        # of MaskGR.
        "paper": MASKGR,
        # It still learns after 4,000 steps: half an hour has 16,600 (benchmarks/results/plateau-small).
        "small": {**CLOZE_SMALL, "steps": 4000},
        "smoke": SMOKE,
    },
    "tiger": {"paper": TIGER, "small": TIGER_SMALL, "smoke": SMOKE},
    # Yang et al. 2024 (arXiv 2411.18814). Stated: six layers instead of TIGER's four, the same heads. The
    # other values are assumed to be TIGER's.
    "liger": {"paper": {**TIGER, "layers": 6}, "small": {**TIGER_SMALL, "steps": 3200}, "smoke": SMOKE},
    "dreamrec": {
        # Yang et al. 2023, section 4.1.
        # Stated: width D = 64; histories dropped for guidance in a tenth of the examples; T from 50 to 2,000
        # and guidance w from 0 to 10, by data set.
        # Their commands: T = 500 (2,000 on KuaiRec), w = 2 (4 on Zhihu; an option of evaluation here: `eval
        # --guidance 2`), AdamW, learning rates from 0.00005 to 0.01.
        # Their released program: histories of 10 items, one block with one head, batches of 256.
        # From MaskGR's paper (section 4.1): 1,000 steps of diffusion for DreamRec; where the two differ, the
        # values here are DreamRec's own.
        # Ours: steps and patience.
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
        # Cui et al. 2024. The sizes, the learning rate, the weights of the losses and 5 of 1,000 diffusion
        # steps (MaskGR's paper, section 4.1: 1,000) are the authors' settings for Beauty. They name a
        # pairwise loss with one negative for the recommendation.
        # Ours: the loss bce, with one negative; patience.
        "paper": {
            "loss": "bce",
            "layers": 2,
            "width": 64,
            "heads": 2,
            "mlp": 128,
            "dropout": 0.5,
            "max_items": 50,
            "micro_tokens": 16_384,  # a step is one forward pass, so that all its sequences are contrasted
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
            "steps": 1100,  # validation rose no further in half an hour (benchmarks/results/plateau-small)
        },
        "smoke": {**SMOKE, "temperature": 5.0},
    },
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
    "cooccurrence": {"paper": COUNTED, "small": COUNTED, "smoke": {**COUNTED, "validation_users": 500}},
}


def preset_names(model: str) -> tuple[str, ...]:
    """Return the names of a model's presets.

    Raises:
        UserError: the model does not exist.
    """
    if model not in PRESETS:
        raise UserError(f"--model {model!r} is unknown; choose {', '.join(PRESETS)}.")
    return tuple(PRESETS[model])


def preset(model: str, name: str) -> dict[str, Any]:
    """Return the values of a model's preset by field name.

    Raises:
        UserError: The model does not exist, or has no preset of that name.
    """
    if name not in preset_names(model):
        raise UserError(
            f"--preset {name!r} is none of --model {model}; choose {', '.join(preset_names(model))}."
        )
    return dict(PRESETS[model][name])
