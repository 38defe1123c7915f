"""`maskgr ensemble`, and the commands that take its committee as any run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from pipelines.workspace import Workspace
from tests.conftest import write_toy
from tests.train.conftest import write_sids
from tests.train.test_committee import train

HISTORY = ("--history", "item-3,item-4", "--format", "json", "--explain")


def test_commands_take_a_committee_as_any_run(
    workspace: Workspace, maskgr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    write_toy(workspace, users=60)
    write_sids(workspace), write_sids(workspace, "other-sids", digits=4, codes=5)
    train(workspace, "a0", "toy-sids")
    train(workspace, "b0", "other-sids")
    train(workspace, "s0", None)

    def ran(*arguments: object) -> str:
        done = maskgr(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Members of com" in ran("ensemble", "com", "a0", "b0", "s0", "--weights", "2,1,1")
    compared = json.loads(ran("eval", "com", "a0", "--format", "json"))["differences"]
    assert {row["run"] for row in compared} == {"a0"}
    shown = json.loads(ran("show", "com", "--format", "json"))
    assert [(row["run"], row["weight"]) for row in shown["members"]] == [
        ("a0", 0.5),
        ("b0", 0.25),
        ("s0", 0.25),
    ]
    assert {row["evaluation"] for row in shown["evaluations"]} == {"greedy-t1-k20-constrained"}
    bundle = workspace.root.parent / "bundle"
    ran("export", "com", "--output", bundle)
    assert "| b0 | 0.25 | maskgr |" in (bundle / "README.md").read_text(encoding="utf-8")
    ran("rm", "runs/b0", "--yes")
    assert json.loads(ran("recommend", "com", *HISTORY)) == json.loads(ran("recommend", bundle, *HISTORY))
    refused = maskgr("ensemble", "com", "a0", "s0")
    assert refused.returncode == 2 and "Replace it with --force" in refused.stderr
