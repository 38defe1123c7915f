"""The documentation site: what it generates, what it links to, and what it loads."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from maskgr_cli.commands import COMMANDS
from pipelines.schemas import SCHEMAS
from tests.conftest import PATIENCE, ROOT

pytest.importorskip("mkdocs", reason="the site needs maskgr[docs]")
SITE = ROOT / "docs" / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--no-strict"]
    subprocess.run(
        [*command, "--config-file", str(SITE / "mkdocs.yml"), "--site-dir", str(folder)],
        check=True,
        timeout=PATIENCE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )
    return folder


@pytest.fixture(scope="module")
def links() -> ModuleType:
    spec = importlib.util.spec_from_file_location("links", SITE / "links.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_have_every_command_and_every_kind_of_artifact(site: Path) -> None:
    pages = {name: (site / f"reference-{name}.html").read_text("utf-8") for name in ("commands", "artifacts")}
    for name in COMMANDS:
        assert f'id="maskgr-{name}"' in pages["commands"]
    assert "<td>1 to 16,384</td>" in pages["commands"]  # of --width
    for kind in SCHEMAS:
        assert f'id="{kind}"' in pages["artifacts"]
    assert 'id="maskgr.Model.recommend"' in (site / "reference-python.html").read_text("utf-8")


def test_pages_load_nothing_from_other_servers(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?([^\" >]+)", page.read_text("utf-8")
        )
        assert loaded
        assert [address for address in loaded if re.match("(?:https?:)?//", address)] == []


def test_links_to_files_of_the_repository_become_addresses(links: ModuleType) -> None:
    def turned(source: str, target: str, image: bool = False) -> str:
        return links.target_on_site(source, target, image, "https://example.org/x")

    assert turned("data.md", "training.md#models") == "training.md#models"
    assert turned("data.md", "../tests/decode/test_beam.py") == (
        "https://example.org/x/blob/main/tests/decode/test_beam.py"
    )
    assert turned("data.md", "../benchmarks/results") == "https://example.org/x/tree/main/benchmarks/results"
    assert turned("data.md", "../CONTRIBUTING.md") == "contributing.md"
    assert turned("index.md", "docs/data.md") == "data.md"
    picture = "benchmarks/results/small/curves.png"
    assert turned("results.md", f"../{picture}", image=True) == f"repository/{picture}"
    with pytest.raises(Exception, match="leads to no file"):
        turned("data.md", "../tests/missing.py")


def test_the_address_of_the_repository_is_that_of_the_package() -> None:
    (address,) = re.findall(r"^repo_url: (\S+)$", (SITE / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert f'Homepage = "{address}"' in (ROOT / "pyproject.toml").read_text("utf-8")
