"""Upload to and download from a local server with the endpoints of the Hugging Face Hub."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import maskgr
from pipelines.bundle.hub import fetch, push
from pipelines.errors import UserError
from pipelines.recommend.model import Model
from pipelines.workspace import Workspace
from tests.bundle.conftest import HISTORY, Bundled
from tests.bundle.hub_server import REGULAR, TOKEN, Hub, commit_id

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_maskgr(request: pytest.FixtureRequest) -> Run:
    """The fixture `maskgr`, whose name is that of the package here."""
    run: Run = request.getfixturevalue("maskgr")
    return run


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def environment(hub: Hub, tmp_path: Path, token: str = TOKEN) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "huggingface"),
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@pytest.fixture
def reached(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Let huggingface_hub of this process speak with the local server."""
    for name, value in environment(hub, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    return hub


def test_a_bundle_goes_up_and_comes_down(
    reached: Hub, model: Callable[..., Model], bundled: Bundled, recwarn: pytest.WarningsRecorder
) -> None:
    """Small files in the commit, large ones as LFS objects; each commit can be named."""
    assert push(bundled("liger"), "someone/shop", private=True) == f"{reached.address}/someone/shop"
    assert push(bundled("sasrec"), "someone/shop", private=False) == f"{reached.address}/someone/shop"
    assert not [warning for warning in recwarn if "data file" in str(warning.message)]
    assert reached.private == {"someone/shop": True}
    first, second = reached.commits["someone/shop"]
    folder = bundled("liger")
    assert first == {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert any(len(content) > REGULAR for content in first.values())
    assert any(len(content) <= REGULAR for content in first.values())
    assert second["model.safetensors"] == (bundled("sasrec") / "model.safetensors").read_bytes()
    for name, revision in (("liger", f"@{commit_id(1)}"), ("sasrec", "@main"), ("sasrec", "")):
        loaded = maskgr.load(f"hf:someone/shop{revision}", device="cpu")
        assert loaded.recommend([HISTORY]).equals(model(name).recommend([HISTORY]))
    reached.commits.clear()
    with pytest.raises(UserError, match="hf:someone/nothing cannot be read"):
        fetch("hf:someone/nothing")


def test_a_changed_download_is_refused(reached: Hub, bundled: Bundled) -> None:
    push(bundled("sasrec"), "someone/shop", private=False)
    files = reached.commits["someone/shop"][0]
    files["config.json"] = files["config.json"].replace(b"sasrec", b"rpg")
    with pytest.raises(UserError, match=r"config.json is not the file that was exported"):
        maskgr.load("hf:someone/shop")


def test_the_commands_push_and_load(
    run_maskgr: Run, hub: Hub, store: Workspace, model: Callable[..., Model], tmp_path: Path
) -> None:
    expected = model("sasrec").recommend([["item-3", "item-4"]], k=3)
    there = environment(hub, tmp_path)
    export = ("export", "sasrec", "--output", "bundle", "--push", "someone/shop", "--private")
    done = run_maskgr(*export, MASKGR_WORKSPACE=str(store.root), **there)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{hub.address}/someone/shop\n"
    assert hub.private == {"someone/shop": True}
    asked = ("recommend", "hf:someone/shop", "--history", "item-3,item-4", "-k", 3, "--format", "json")
    found = run_maskgr(*asked, **there)
    assert found.returncode == 0, found.stderr
    assert [row["item_id"] for row in json.loads(found.stdout)] == expected["item_id"].to_list()


def test_a_refusal_costs_one_line(reached: Hub, bundled: Bundled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(UserError, match="someone/shop cannot be written") as refused:
        push(bundled("sasrec"), "someone/shop", private=False)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("Log in with: hf auth login")


@pytest.mark.parametrize("name", ["hf:shop", "hf:a/b/c", "hf:someone/shop@", "hf:../x"])
def test_what_is_no_name_is_refused_without_a_request(name: str) -> None:
    with pytest.raises(UserError, match="no name of a repository|names no revision"):
        fetch(name)
