"""Presets of the models over item numbers."""

from __future__ import annotations

from typing import Any

from pipelines.train.presets.shared import CLOZE_SMALL, CONSTANT_RATE, MASKGR, SMALL, SMOKE

# Co-occurrence is counted in one pass, its only step, whatever the preset. All values are ours; those of the
# model are the defaults of its configuration.
COUNTED: dict[str, Any] = {"max_items": 8, "steps": 1, "validations": 1, "validation_users": 5000}

ITEM_MODELS: dict[str, dict[str, dict[str, Any]]] = {
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
    "cooccurrence": {"paper": COUNTED, "small": COUNTED, "smoke": {**COUNTED, "validation_users": 500}},
}
