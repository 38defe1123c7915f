"""Commands that make an artifact again with the settings that it was made with."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines import artifacts
from pipelines.decode.config import Decoding
from pipelines.download.config import DownloadConfig
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.housekeeping.parts import members_of
from pipelines.import_.config import ImportConfig
from pipelines.options import flag_of, typed
from pipelines.tokenize.config import TokenizeConfig, default_name
from pipelines.train.configure import configure
from pipelines.workspace import Dataset, Run


def dataset_command(dataset: Dataset) -> str:
    """Return the command that makes a data set again."""
    path = dataset.items if dataset.lists_files else dataset.interactions
    recorded, provenance = _recorded(path) or _recorded(dataset.sequences), artifacts.provenance(path)
    if "reader" in recorded:  # of a public data set
        return shlex.join(["maskgr", "download", dataset.name, *_changed(DownloadConfig(), recorded)])
    words = ["maskgr", "import", dataset.name]
    if dataset.lists_files:
        words += ["--sequences", str(recorded.get("folder", "…"))]
    for name, source in (provenance["inputs"] if provenance else {}).items():
        flag = "--items" if name.startswith("items") else "--interactions"
        words += [flag, os.path.normpath(path.parent / source["path"])]
    if "--interactions" not in words and not dataset.lists_files:
        return f"{shlex.join(words)} --interactions …"
    return shlex.join([*words, *_changed(ImportConfig(), recorded)])


def embeddings_command(dataset: Dataset, name: str) -> str:
    """Return the command that makes embeddings again."""
    recorded = _recorded(dataset.embeddings(name))
    words = ["maskgr", "embed", "--dataset", dataset.name]
    encoder = recorded.get("encoder")
    if not isinstance(encoder, str):
        return f"{shlex.join(words)} --name {name} --encoder …"
    words += ["--encoder", encoder] + (
        ["--name", name] if name != EmbedConfig(encoder=encoder).output_name else []
    )
    with suppress(UserError, TypeError):
        words += _changed(EmbedConfig(encoder=encoder), recorded)
    return shlex.join(words)


def sids_command(dataset: Dataset, name: str) -> str:
    """Return the command that makes semantic IDs again."""
    path = dataset.sids(name)
    recorded, provenance = _recorded(path), artifacts.provenance(path)
    words = ["maskgr", "tokenize", "--dataset", dataset.name]
    with suppress(UserError, TypeError):
        config = TokenizeConfig(**_fields(TokenizeConfig, recorded))
        words += _changed(TokenizeConfig(), dataclasses.asdict(config))
        source = provenance["inputs"].get("embeddings") if provenance else None
        embedding = Path(source["path"]).stem if source else ""
        words += ["--embedding", embedding] if embedding else []
        if name == default_name(embedding, config):
            return shlex.join(words)
    return shlex.join([*words, "--name", name])


def run_command(run: Run, config: Mapping[str, Any]) -> str:
    """Return the command that trains a run again, or makes a committee again of its members.

    Args:
        run: run.
        config: content of its config.json, from which any key may be missing.
    """
    if members := members_of(config):
        weights = ",".join(f"{member.get('weight')}" for member in members)
        names = [f"{member.get('run')}" for member in members]
        return shlex.join(["maskgr", "ensemble", run.name, *names, "--weights", weights, "--force"])
    words = ["maskgr", "train", "--force", "--name", run.name]
    for key, flag in (("continued", "--continue"), ("final", "--final")):
        if isinstance(config.get(key), dict):
            return shlex.join([*words, flag, str(config[key].get("of"))])
    try:
        model, preset = config["model"], config["preset"]
        words += ["--dataset", config["dataset"], "--model", model, "--preset", preset]
        words += ["--semantic-ids", config["sids"]] if config["sids"] else []
        for default, values in zip(
            configure(model, preset, {}), (config["model_settings"], config["train"]), strict=True
        ):
            words += _changed(default, values)
        return shlex.join(words)
    except (KeyError, TypeError, UserError):  # of another version
        return f"maskgr train --force --name {run.name} …"


def eval_command(run: Run, evaluation: str) -> str:
    """Return the command that evaluates a run again."""
    recorded = _recorded(run.evaluation(evaluation) / "metrics.parquet")
    known = {"split": recorded.get("split", "test"), "precision": recorded.get("precision", "auto")}
    words = ["maskgr", "eval", run.name, *_changed(Decoding(), recorded), *_changed(EvalConfig(), known)]
    return shlex.join(words)


def _recorded(path: Path) -> dict[str, Any]:
    """Return the configuration that an artifact records; empty if it records none."""
    provenance = artifacts.provenance(path)
    return dict(provenance["config"]) if provenance else {}


def _fields(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration's fields."""
    return {f.name: values[f.name] for f in dataclasses.fields(config) if f.name in values}


def _changed(default: Any, values: Mapping[str, Any]) -> list[str]:
    """Return the options whose values differ from a configuration, as a user types them."""
    words: list[str] = []
    for field in dataclasses.fields(default):
        value = values.get(field.name)
        if value is not None and value != getattr(default, field.name) and "help" in field.metadata:
            flag = flag_of(field)
            words += [typed(flag, value)] if isinstance(value, bool) else [flag, str(value)]
    return words
