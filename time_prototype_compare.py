"""Compare the runs of the time prototype: python time_prototype_compare.py WORKSPACE MAX_ITEMS…

Runs are called VARIANT-MAX_ITEMS-SEED, with the variants none, gaps and request, and are evaluated with
`maskgr eval`. Prints percent: mean and standard deviation over three seeds; differences from "none", paired over
users, of the mean over seeds, with 95 % bootstrap intervals over users (10,000 draws); and the same by the time
from the last item to the target.
"""

import os
import sys

import numpy as np
import pyarrow.parquet as pq

workspace, *lengths = sys.argv[1:]
os.environ["MASKGR_TIMES"] = f"{workspace}/datasets/ml-100k"
from pipelines.models import time_prototype  # noqa: E402 - reads MASKGR_TIMES

K = "greedy-t1-k20-constrained"


def measures(run: str, decoding: str) -> np.ndarray:
    """R@10 and N@10 of each user, [2, B]."""
    table = pq.read_table(f"{workspace}/runs/{run}/eval/{decoding}/ranks.parquet").sort_by("user")
    rank = np.nan_to_num(table["rank"].to_numpy().astype(float))
    hit = (rank >= 1) & (rank <= 10)
    return np.stack([hit, np.where(hit, 1 / np.log2(np.maximum(rank, 1) + 1), 0)])


def interval(difference: np.ndarray) -> str:
    """Mean and 95 % interval of differences [2, B]."""
    B, parts = difference.shape[1], []
    draws = np.random.default_rng(0).integers(0, B, (10_000, B))
    for name, values in zip(("R", "N"), difference, strict=True):
        low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
        parts.append(f"{name} {values.mean():+.2f} [{low:+.2f}, {high:+.2f}]")
    return "  ".join(parts)


offsets, features = time_prototype.table()
for n in lengths:
    for split, place in (("validation", 2), ("test", 1)):
        gap = features[offsets[1:] - place, 0]  # bucket b: 2^(b − 1) ≤ 1 + seconds < 2^b
        groups = {"0 s": gap == 1, "1 s to 34 min": (gap > 1) & (gap <= 11), "longer": gap > 11}
        for seen in ("", "-exclude-seen"):
            decoding = ("validation-" if split == "validation" else "") + K + seen
            values = {
                variant: 100 * np.stack([measures(f"{variant}-{n}-{seed}", decoding) for seed in range(3)])
                for variant in ("none", "gaps", "request")
            }
            for variant, x in values.items():
                mean, std = x.mean((0, 2)), x.mean(2).std(0, ddof=1)
                print(f"{n} {split}{seen} {variant}: R {mean[0]:.2f} ± {std[0]:.2f}  N {mean[1]:.2f} ± {std[1]:.2f}")
                if variant != "none":
                    difference = (x - values["none"]).mean(0)
                    print("    ", interval(difference))
                    for name, users in groups.items():
                        print(f"      {name} ({users.sum()}): {interval(difference[:, users])}; "
                              f"R of none {values['none'].mean(0)[0, users].mean():.1f}")  # fmt: skip
