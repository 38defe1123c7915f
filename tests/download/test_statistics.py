"""The statistics of table 6, and that the paper's figures are where an installed package looks for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.download.statistics import paper_statistics, statistics
from pipelines.workspace import Workspace
from tests.conftest import ROOT, write_toy


def test_the_toy_by_hand(toy: Workspace) -> None:
    found = statistics(toy.dataset("toy"))  # 200 users, 60 items, 8 interactions a user
    assert (found.users, found.items, found.interactions, found.average_length) == (200, 60, 1600, 8)
    assert found.sparsity == pytest.approx(1 - 8 / 60)


def test_repeats_do_not_change_the_sparsity(workspace: Workspace) -> None:
    found = statistics(write_toy(workspace, users=5, items=4, length=8).dataset("toy"))  # each item twice
    assert (found.interactions, found.average_length, found.sparsity) == (40, 8, 0)


@pytest.mark.parametrize(
    ("name", "length", "sparsity"),
    [("beauty", 8.88, 99.93), ("toys", 8.63, 99.93), ("sports", 8.32, 99.95), ("ml-1m", 165.50, 95.16)],
)
def test_the_paper_s_counts_give_its_averages(name: str, length: float, sparsity: float) -> None:
    paper = paper_statistics(name)
    assert paper.average_length == pytest.approx(length, abs=0.011)  # the paper's ML-1M: 165.4985…
    assert 100 * paper.sparsity == pytest.approx(sparsity, abs=0.011)


def test_data_files_are_installed_with_the_code(tmp_path: Path) -> None:
    build = ["egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", tmp_path / "lib"]
    subprocess.run(
        [sys.executable, "-c", "from setuptools import setup; setup()", *map(str, build)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for package in ("pipelines", "maskgr_cli"):
        ours = {
            p.relative_to(ROOT)
            for p in (ROOT / package).rglob("*")
            if p.is_file() and p.suffix != ".pyc" and not p.name.startswith(".")
        }
        installed = {
            p.relative_to(tmp_path / "lib") for p in (tmp_path / "lib" / package).rglob("*") if p.is_file()
        }
        assert installed == ours
