"""Values that presets of several models share."""

from __future__ import annotations

from typing import Any

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
