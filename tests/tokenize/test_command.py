"""`maskgr tokenize` as a person runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from maskgr_cli import tables
from maskgr_cli.commands.tokenize import quality_tables
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.test_tables import documented_keys, keys_of
from tests.tokenize.test_build import embed, grouped


def test_prints_the_report_and_is_the_same_in_every_process(
    toy: Workspace, maskgr: Callable[..., CompletedProcess[str]]
) -> None:
    dataset = toy.dataset("toy")
    embed(dataset, grouped())
    first = maskgr("tokenize", "--sids", 2, "--codebook", 8)
    assert first.returncode == 0, first.stderr
    assert "Making SIDs lsa-2x8 of toy from its embeddings lsa." in first.stderr
    assert "entropy (bits)" in first.stdout
    assert "60 items. Before the deduplication digit" in first.stdout
    assert "faiss" not in first.stderr.lower()
    before = dataset.sids("lsa-2x8").read_bytes()
    again = maskgr("tokenize", "--sids", 2, "--codebook", 8)
    assert "up to date" in again.stderr
    assert again.stdout == first.stdout
    assert dataset.sids("lsa-2x8").read_bytes() == before
    forced = maskgr("tokenize", "--sids", 2, "--codebook", 8, "--force")
    assert forced.stdout == first.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "vq"), "error: --method 'vq' is unknown; choose kmeans, random, rqvae, pq, opq."),
        (("--codebook", 40000), "error: --codebook is 40000"),
        (("--dataset", "nothing"), "error: No data set 'nothing'"),
        ((), "Run `maskgr embed` first."),
    ],
)
def test_mistakes_end_with_code_2(
    toy: Workspace, maskgr: Callable[..., CompletedProcess[str]], arguments: tuple[object, ...], message: str
) -> None:
    done = maskgr("tokenize", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_random_sids_have_no_relative_quantization_error(
    toy: Workspace, progress: ListProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = toy.dataset("toy")
    embed(dataset, grouped())
    sids = build_sids(dataset, TokenizeConfig(2, 8, "random"), progress).stem
    tables.show(quality_tables(sids, dataset), "table")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row.split("│")[-2].strip() for row in rows] == ["—", "—"]
    tables.show(quality_tables(sids, dataset), "json")
    content = json.loads(capsys.readouterr().out)
    assert keys_of(content) == documented_keys("tokenize")
    assert [row["digit"] for row in content["digits"]] == [0, 1]
    assert [row["relative_error"] for row in content["digits"]] == [None, None]
    assert all(type(row["codes_used"]) is int and 0 < row["entropy_share"] <= 1 for row in content["digits"])
    (whole,) = content["whole"]
    assert (whole["sids"], whole["dataset"], whole["items"]) == (sids, "toy", 60)
