"""Dense and unified retrieval as a person runs them."""

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
    return artifacts.read(
        toy.run("dense").evaluation(decoding) / "recommendations.parquet", "recommendations"
    ).to_pydict()


def test_dense_from_a_data_set_to_its_tables(toy: Workspace, maskgr: Maskgr) -> None:
    trained = maskgr(*TRAIN, "--steps", 40, "--dense", "--whole-item", 0.5, "--name", "dense")
    assert trained.returncode == 0, trained.stderr
    for retrieval, said in (
        ("dense", "text embeddings predicted by layer 1 · dense retrieval, 20 of 60 items"),
        ("unified", "unified retrieval: greedy, 3 evaluations"),
        ("generative", "16 codes · greedy, 3 evaluations"),
    ):
        measured = maskgr("eval", "--retrieval", retrieval)
        assert measured.returncode == 0, measured.stderr
        assert said in measured.stdout
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
    sunk = maskgr("eval", "--retrieval", "unified", "--no-constrained", "--beams", 10)
    assert sunk.returncode == 0, sunk.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retrieval": "dense", "nfe": 2}, "without beams; leave out --nfe"),
        ({"retrieval": "dense", "unmask_counts": "1,2"}, "without beams; leave out --unmask-counts"),
        (
            {"retrieval": "dense", "guidance": 1.0, "constrained": False},
            "without beams; leave out --no-constrained, --guidance",
        ),
        (
            {"retrieval": "sparse"},
            "--retrieval 'sparse' is unknown; choose generative, ranking, dense, unified",
        ),
    ],
)
def test_settings_of_beams_are_refused_without_beams(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Decoding(**settings)


def test_a_mistake_is_one_clear_line(toy: Workspace, maskgr: Maskgr) -> None:
    failed = maskgr("eval", "--retrieval", "dense", "--nfe", 2)
    assert failed.returncode == 2
    assert (
        failed.stderr
        == "error: --retrieval dense scores every item in one evaluation, without beams; leave out --nfe.\n"
    )
