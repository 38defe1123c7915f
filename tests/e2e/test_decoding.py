"""The variants of training and decoding, as a person runs them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from pipelines import artifacts
from pipelines.workspace import Workspace

Maskgr = Callable[..., subprocess.CompletedProcess[str]]
TRAIN = ["train", "--preset", "smoke", "--sids", 2, "--codebook", 16, "--steps", 60]


def recall(toy: Workspace, run: str, decoding: str) -> float:
    rows = artifacts.read(toy.run(run).evaluation(decoding) / "metrics.parquet", "metrics").to_pylist()
    return next(row["value"] for row in rows if (row["metric"], row["k"]) == ("recall", 10))


def run(maskgr: Maskgr, *arguments: object) -> subprocess.CompletedProcess[str]:
    done = maskgr(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def test_prefix_attention_learns_and_is_decoded_through_its_cache(toy: Workspace, maskgr: Maskgr) -> None:
    run(maskgr, *TRAIN, "--attention", "prefix", "--name", "prefix", "--steps", 200)
    measured = run(maskgr, "eval", "--beams", 10)
    assert re.search(r"Index of [\d,]+ partial SIDs: [\d.]+ MiB, built in [\d.]+ s\.", measured.stderr)
    assert recall(toy, "prefix", "greedy-k10-constrained") > 0.5  # item i is followed by item i + 1; by chance 10 of 60
    refused = maskgr("eval", "--approximate")
    assert refused.returncode == 2
    assert "--approximate means nothing to a run with prefix attention" in refused.stderr


def test_several_items_ahead(toy: Workspace, maskgr: Maskgr) -> None:
    run(maskgr, *TRAIN, "--next", 2, "--next-item", 0.8, "--name", "pairs", "--steps", 300)
    for T in (2, 6):
        measured = run(maskgr, "eval", "--next", 2, "--nfe", T, "--beams", 10)
        assert "2 items ahead, average session recall" in measured.stdout
        assert f"{T} evaluations" in measured.stdout
        folder = toy.run("pairs").evaluation(f"next2-greedy-t{T}-k10-constrained")
        ranks = artifacts.read(folder / "ranks.parquet", "ranks").to_pylist()
        sequences = artifacts.read(toy.require_dataset().sequences, "sequences")["items"].to_pylist()
        assert [r["target"] for r in ranks] == [item for row in sequences for item in row[-2:]]
        kept = artifacts.read(folder / "recommendations.parquet", "recommendations").to_pylist()
        hits = 0
        for row in kept:
            pairs = list(zip(row["items"][::2], row["items"][1::2], strict=True))
            assert len(pairs) == len(row["scores"]) == len(set(pairs))
            hits += sum(target in [pair[place] for pair in pairs] for place, target in enumerate(sequences[row["user"]][-2:]))
        assert recall(toy, "pairs", folder.name) == pytest.approx(hits / 2 / len(kept))
    assert recall(toy, "pairs", "next2-greedy-t6-k10-constrained") > 0.4
    for arguments, message in (
        (["eval", "--next", 3], "--next 3: the run was trained with --next 2. Train one with: maskgr train --next 3"),
        (["eval", "--nfe", 7], "--nfe 7 is more than the 6 digits"),
        (["eval", "--remask", 1], "--remask works on one item, not on the 2 of this run"),
        ([*TRAIN, "--next", 2, "--attention", "prefix"], "--next 2 needs --attention full"),
        ([*TRAIN, "--next", 4], "--next 4 needs 9 items of every user"),
    ):
        refused = maskgr(*arguments)
        assert refused.returncode == 2
        assert message in refused.stderr


def test_guidance_remasking_and_the_approximate_cache(toy: Workspace, maskgr: Maskgr) -> None:
    run(maskgr, *TRAIN, "--name", "plain")
    refused = maskgr("eval", "--guidance", 1)
    assert refused.returncode == 2
    assert "--guidance needs a run that has learnt to do without a history" in refused.stderr
    run(maskgr, *TRAIN, "--forget", 0.2, "--name", "forgetful")
    tables = {}
    for options, name in (
        ([], "greedy-k10-constrained"),
        (["--guidance", 0.5], "greedy-k10-constrained-w0.5"),
        (["--remask", 2, "--nfe", 2], "greedy-t2-k10-constrained-m2"),
        (["--reveal", "2,1"], "greedy-r2-1-k10-constrained"),
        (["--approximate"], "greedy-k10-constrained-approximate"),
    ):
        measured = run(maskgr, "eval", "--beams", 10, *options)
        kept = artifacts.read(toy.run("forgetful").evaluation(name) / "recommendations.parquet", "recommendations").to_pylist()
        assert all(len(set(row["items"])) == len(row["items"]) == 10 for row in kept)  # valid, none twice
        tables[name] = [row["scores"] for row in kept]
        if "--remask" in options:
            assert "4 evaluations (1+2 digits, then 2 remasked)" in measured.stdout
    assert len({str(scores) for scores in tables.values()}) == len(tables)  # each does something
    for wrong, message in (
        (["--guidance", -1], "--guidance is -1"),
        (["--remask", -1], "--remask is -1"),
        (["--reveal", "3,1"], "add up to the 3"),
    ):
        refused = maskgr("eval", *wrong)
        assert refused.returncode == 2
        assert message in refused.stderr
