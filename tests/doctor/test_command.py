"""`maskgr doctor` as a person runs it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from maskgr_cli import allocator, console
from maskgr_cli.app import app
from pipelines.doctor import machine
from pipelines.workspace import Workspace
from tests.conftest import write_toy
from tests.doctor.test_state import write_config
from tests.test_tables import documented_keys, keys_of


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without a problem, on a terminal that is wide enough."""
    monkeypatch.setattr(machine.importlib.metadata, "requires", lambda _: [])
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(console.out(), "width", 200)
    monkeypatch.delenv("MASKGR_WORKSPACE", raising=False)


def doctor(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)], catch_exceptions=False)


def test_a_workspace_in_order_is_fine(workspace: Workspace) -> None:
    write_toy(workspace)
    done = doctor("--workspace", workspace.root)
    assert done.exit_code == 0
    for text in ("Packages", "Machine", "Workspace", "Content", "Devices", "No problem was found."):
        assert text in done.stdout
    assert done.stdout.index("Machine") < done.stdout.index("Devices")  # PyTorch is imported last


def test_what_is_broken_is_named_with_its_command_and_exit_code_1(workspace: Workspace) -> None:
    write_toy(workspace)
    write_config(workspace, "r", state="finished")
    write_config(workspace, "s", state="interrupted", steps=5)
    done = doctor("--workspace", workspace.root)
    assert done.exit_code == 1
    assert (
        "broken: runs/r: model.safetensors does not exist\n    maskgr train --force --name r" in done.stdout
    )
    command = f"maskgr train --resume --name s --workspace {workspace.root}"
    assert f"unfinished: runs/s: it was interrupted at step 5\n    {command}\n" in done.stdout
    workspace.run("r").weights.write_bytes(b"weights")
    assert doctor("--workspace", workspace.root).exit_code == 0


def test_json_is_one_object(workspace: Workspace) -> None:
    write_toy(workspace)
    write_config(workspace, "r", state="finished")
    done = doctor("--workspace", workspace.root, "--format", "json")
    assert done.exit_code == 1
    content: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    assert [*content] == [
        *("packages", "machine", "workspace", "sizes", "in_use", "devices", "problems"),
    ]
    documented = documented_keys("doctor")
    assert documented.pop("in_use") == {"folder", "work"}  # nothing is in use here
    assert keys_of(content) == documented
    facts = {fact["name"]: fact for fact in content["machine"]}
    assert facts["memory"]["unit"] == "bytes" and facts["memory"]["value"] > 2**20
    assert content["problems"][0]["kind"] == "broken"
    assert [*content["problems"][0]] == ["kind", "subject", "reason", "command"]


def test_a_workspace_that_does_not_exist_or_cannot_be_used(workspace: Workspace) -> None:
    done = doctor("--workspace", workspace.root)
    assert done.exit_code == 0
    assert f"{workspace.root} does not exist yet\n    maskgr download ml-100k" in done.stdout
    assert not workspace.root.exists()
    workspace.root.write_text("")
    done = doctor("--workspace", workspace.root)
    assert done.exit_code == 1
    assert f"broken: workspace: The workspace {workspace.root} is a file." in done.stdout
    assert "Devices" in done.stdout
    content = json.loads(doctor("--workspace", workspace.root, "--format", "json").stdout)
    assert [*content] == ["packages", "machine", "workspace", "sizes", "in_use", "devices", "problems"]
    assert content["workspace"] == content["sizes"] == content["in_use"] == []
