"""Dense and unified retrieval on the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from pipelines import artifacts
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.workspace import Workspace

Maskgr = Callable[..., subprocess.CompletedProcess[str]]
TRAIN = ["train", "--preset", "smoke", "--sids", 2, "--codebook", 16]


def recommended(toy: Workspace, decoding: str) -> dict[str, list]:
    """Return the recommendations of the run "dense" by column."""
    return artifacts.read(
        toy.run("dense").evaluation(decoding) / "recommendations.parquet", "recommendations"
    ).to_pydict()


def test_dense_from_a_data_set_to_its_tables(toy: Workspace, maskgr: Maskgr) -> None:
    trained = maskgr(*TRAIN, "--steps", 40, "--dense", "--whole-item", 0.5, "--name", "dense")
    assert trained.returncode == 0, trained.stderr
    for retrieval, description in (
        (("dense",), "text embeddings predicted by layer 1 · dense retrieval, 20 of 60 items"),
        (("unified", "--dense-weight", 1), "unified retrieval: greedy, 3 function evaluations"),
        (("generative",), "16 codes · greedy, 3 function evaluations"),
    ):
        measured = maskgr("eval", "--retrieval", *retrieval)
        assert measured.returncode == 0, measured.stderr
        assert description in measured.stdout
    assert "retrieval" not in measured.stdout
    names = ("dense-k20", "unified-greedy-k20-constrained", "greedy-k20-constrained")
    dense, unified, generative = (recommended(toy, name) for name in names)
    changed = 0
    for user in range(200):
        assert sorted(unified["items"][user]) == sorted(generative["items"][user])
        score = dict(zip(dense["items"][user], dense["scores"][user], strict=True))
        both = [
            (i, s) for i, s in zip(unified["items"][user], unified["scores"][user], strict=True) if i in score
        ]
        assert [s for _, s in both] == pytest.approx([score[i] for i, _ in both], rel=1e-3, abs=1e-3)
        for scores in (unified["scores"][user], dense["scores"][user]):
            assert scores == sorted(scores, reverse=True)
        changed += unified["items"][user] != generative["items"][user]
    assert changed > 100
    measured = maskgr("eval", "--retrieval", "unified", "--no-constrained", "--beams", 10)
    assert measured.returncode == 0, measured.stderr
    maskgr(*TRAIN, "--steps", 4, "--dense", "--dense-vectors", "learned", "--name", "learned")
    for retrieval in ("dense", "unified"):
        measured = maskgr("eval", "learned", "--retrieval", retrieval, "--precision", "bf16")
        assert measured.returncode == 0, measured.stderr
    weight = artifacts.read_json(toy.run("dense").config)["dense_weight"]
    assert f"{weight:g} of the dense score is the best on validation" in trained.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"retrieval": "dense", "nfe": 2},
            "^--nfe has no effect on --retrieval dense, which scores .* without beams. Leave it out.$",
        ),
        (
            {"retrieval": "dense", "unmask_counts": "1,2"},
            "^--unmask-counts has no effect on --retrieval dense, .* without beams. Leave it out.$",
        ),
        (
            {"retrieval": "dense", "guidance": 1.0, "constrained": False},
            "^--no-constrained, --guidance have no effect on --retrieval dense, .* Leave them out.$",
        ),
        (
            {"retrieval": "sparse"},
            "--retrieval 'sparse' is unknown; choose generative, ranking, dense, unified",
        ),
    ],
)
def test_dense_retrieval_refuses_settings_of_beams(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Decoding(**settings)


def test_a_mistake_is_one_clear_line(toy: Workspace, maskgr: Maskgr) -> None:
    failed = maskgr("eval", "--retrieval", "dense", "--nfe", 2)
    assert failed.returncode == 2
    assert (
        failed.stderr
        == "error: --nfe has no effect on --retrieval dense, which scores every item at once, without beams. "
        "Leave it out.\n"
    )
