"""What the order of equal times is worth: a made log in which it reveals the target."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

Ran = Callable[..., subprocess.CompletedProcess[str]]
GROUPS, SIZE, USERS, DAYS, A_DAY = 5, 12, 240, 4, 3


def write_days(path: Path) -> None:
    """Write a log with days for times: on each day a user takes three items of one group, in no order; the
    file lists them by number.
    """
    rng = np.random.default_rng(0)
    rows = [
        (f"user-{user}", f"item-{SIZE * (user % GROUPS) + item:02}", f"2024-05-{day + 1:02}")
        for user in range(USERS)
        for day in range(DAYS)
        for item in sorted(rng.choice(SIZE, A_DAY, replace=False))
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("user_id", "item_id", "date"), *rows])


def test_the_order_of_the_file_makes_a_target_easier(maskgr: Ran, tmp_path: Path) -> None:
    write_days(tmp_path / "days.csv")
    recall = {}
    for ties in ("file", "shuffle"):
        done = maskgr("import", ties, "--interactions", "days.csv", "--ties", ties)
        assert done.returncode == 0 and "the last two items of 100.0% of the users" in done.stderr
        trained = maskgr("train", "--model", "cooccurrence", "--backward", 0, "--name", ties)
        assert trained.returncode == 0, trained.stderr
        rows = json.loads(maskgr("eval", ties, "--format", "json").stdout)["metrics"]
        recall[ties] = rows[0]["recall@5"]
    assert recall["file"] > recall["shuffle"] + 0.1, recall  # of twelve items, those after the last one
