"""Renaming and removing the members of a committee, and what it was made from."""

from __future__ import annotations

import json

import pytest

from pipelines import artifacts
from pipelines.doctor.mend import run_command
from pipelines.errors import UserError
from pipelines.housekeeping.parts import find_part
from pipelines.housekeeping.remove import dependents, remove, to_remove
from pipelines.housekeeping.rename import rename
from pipelines.inventory import overview
from pipelines.workspace import Workspace
from tests.conftest import ListProgress


def write_committee(workspace: Workspace, **of_second: object) -> None:
    """Make a committee of the runs "first" and "second", where the second one has semantic IDs of its own;
    keywords are further values of its configuration.
    """
    dataset, members = workspace.dataset("toy"), []
    dataset.sids("other").write_bytes(dataset.all_sids[0].read_bytes())
    for name in ("first", "second"):
        config = workspace.run(name).read_config()
        if name == "second":
            config = {**config, "sids": "other", **of_second}
        members.append({"run": name, "weight": 0.5, "config": config})
    config = {**members[0]["config"], "model": "committee", "members": members, "weighting": "equal"}
    artifacts.write_json(workspace.run("com").config, config)


def test_the_names_of_members_follow(compared: Workspace, progress: ListProgress) -> None:
    write_committee(compared, final={"of": "first", "weights": "0", "steps": 1})
    rename(compared, "runs/first", "best", progress)
    members = compared.run("com").read_config()["members"]
    assert [member["run"] for member in members] == ["best", "second"]
    assert members[1]["config"]["final"]["of"] == "best"
    assert run_command(compared.run("com"), compared.run("com").read_config()) == (
        "maskgr ensemble com best second --weights 0.5,0.5 --force"
    )


def test_the_data_set_of_members_follows(compared: Workspace, progress: ListProgress) -> None:
    write_committee(compared)
    rename(compared, "datasets/toy", "shop", progress)
    text = json.dumps(compared.run("com").read_config())
    assert '"dataset": "shop"' in text and '"dataset": "toy"' not in text and "datasets/toy/" not in text
    stale = {view.name: view.stale for view in overview(compared).runs}
    assert stale["com"] == stale["first"] is None


def test_a_member_can_be_removed_and_the_semantic_ids_of_members_cannot(compared: Workspace) -> None:
    write_committee(compared)
    with pytest.raises(UserError, match="runs/com depends on datasets/toy/sids/other"):
        to_remove(compared, ["datasets/toy/sids/other"], with_dependents=False)
    first = find_part(compared, "runs/first")
    assert "runs/com" not in {part.name for part in dependents(compared, [first])}
    remove(compared, to_remove(compared, ["runs/first"], with_dependents=True))
    assert compared.run("com").read_config()["members"][0]["run"] == "first"
