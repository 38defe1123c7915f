"""The walls of the house: who may import whom, and what must not be loaded to show a help text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PIPELINES = sorted((ROOT / "pipelines").rglob("*.py"))

CORE = {
    *("errors", "options", "typed_json", "durable", "orphans", "progress", "processes", "processor"),
    *("artifacts", "artifact_parts", "schemas", "formats", "names", "parts", "workspace", "where"),
    *("pages", "temporal"),
}
MAY_IMPORT = {  # room → rooms whose public functions it may call, besides itself and the core
    **dict.fromkeys(["data", "readers", "prepare", "inventory", "housekeeping", *CORE], set()),
    "download": {"readers", "prepare"},
    "import_": {"readers", "prepare", "data"},
    "keyed": {"readers"},
    "embed": {"data", "keyed"},
    "tokenize": {"data", "keyed"},
    "grow": {"embed", "tokenize", "keyed", "prepare", "readers"},
    "defaults": {"embed", "tokenize"},
    "models": {"data"},
    "decode": {"data", "models"},
    "evaluate": {"data", "models", "decode"},
    "external": {"readers", "evaluate"},
    "export": {"data", "readers"},
    "train": {"data", "models", "decode", "evaluate"},
    "bundle": {"data", "models", "download"},
    "recommend": {"data", "models", "decode", "evaluate", "readers", "prepare", "import_", "bundle"},
    "views": {"data", "models", "train", "recommend", "ablate"},
    "serve": {"recommend", "data", "models", "decode"},
    "doctor": {
        *("inventory", "housekeeping", "download", "import_", "embed", "tokenize"),
        *("models", "decode", "evaluate", "train"),
    },
    "ablate": {
        *("download", "embed", "tokenize", "defaults", "data", "models", "train", "decode", "evaluate")
    },
}
PARTS = {  # part of `models` → parts that it may import, besides itself and the configuration of all models
    "nn": set(),
    "objectives": {"nn"},
    "sid": {"nn", "objectives", "denoiser"},
    "sid_models": {"nn", "objectives", "sid", "denoiser", "base", "causal"},
    "item_models": {"nn", "objectives", "denoiser", "base", "causal"},
}
LIGHT = {
    "artifacts",
    "workspace",
    "models",
    "train",
    "decode",
    "evaluate",
}  # also run where neither of these is installed
INTERFACE = {"maskgr_cli", "typer", "click", "rich", "argparse"}


def imports(file: Path) -> set[str]:
    """Return everything that a file imports, at its top and inside functions, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(file: Path) -> str:
    return file.relative_to(ROOT / "pipelines").parts[0].removesuffix(".py")


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", PIPELINES, ids=name)
def test_pipelines_know_nothing_of_the_command_line(file: Path) -> None:
    assert not {i for i in imports(file) if i.split(".")[0] in INTERFACE}
    called = {
        n.func.id
        for n in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not called & {"print", "input", "exit", "quit"}
    assert not imports(file) & {"sys.argv", "sys.exit"}


@pytest.mark.parametrize("file", [f for f in PIPELINES if room(f) != "__init__"], ids=name)
def test_stages_keep_out_of_other_stages(file: Path) -> None:
    others = {tuple(i.split(".")[1:]) for i in imports(file) if i.startswith("pipelines.")}
    rooms = {parts[0] for parts in others} - CORE - {room(file), "__version__"}
    assert rooms <= MAY_IMPORT[room(file)]
    assert not {
        parts
        for parts in others
        if parts[0] != room(file) and any(part.startswith("_") for part in parts if part != "__version__")
    }


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_models_keep_out_of_other_parts(part: str) -> None:
    for file in (ROOT / "pipelines" / "models" / part).glob("*.py"):
        others = {tuple(i.split(".")[2:]) for i in imports(file) if i.startswith("pipelines.models.")}
        assert {parts[0] for parts in others} - {part, "config"} <= PARTS[part], file


def test_decoding_knows_the_protocol_and_the_data_alone() -> None:
    for file in (ROOT / "pipelines" / "decode").glob("*.py"):
        assert {i.split(".")[2] for i in imports(file) if i.startswith("pipelines.models.")} <= {"denoiser"}


@pytest.mark.parametrize("file", [f for f in PIPELINES if room(f) in LIGHT], ids=name)
def test_training_and_evaluation_need_no_stage_before_them(file: Path) -> None:
    assert not {i for i in imports(file) if i.split(".")[0] in {"polars", "faiss", "transformers"}}


def test_every_room_is_known_here() -> None:
    assert {room(f) for f in PIPELINES} - {"__init__"} <= MAY_IMPORT.keys()
