"""Layout and manifest of a bundle: the digests of its files, which are checked when it is loaded.

Only the standard library and pyarrow are imported.
"""

from __future__ import annotations

import time
from pathlib import Path, PurePosixPath
from typing import TypedDict

from pipelines import __version__, artifacts
from pipelines.errors import UserError
from pipelines.options import quoted
from pipelines.parts import Dataset, Run

FORMAT = 1  # of the manifest and of the layout
MANIFEST, CARD = "bundle.json", "README.md"
POPULARITY, GRAPH, IDS, PROGRAM = "popularity.parquet", "model.onnx", "item_ids.json", "recommend_onnx.py"
# Path in the bundle → content. Names in capitals stand for names that vary.
LAYOUT = {
    MANIFEST: "names of run and data set, format, and the sha256 of every other file but the model card",
    CARD: "model card: use, metrics, data, training, machine, limits",
    "config.json": "configuration of the run",
    "train.toml": "options that repeat the training, for `maskgr train --config`",
    "model.safetensors": "weights",
    "items.parquet": "catalogue: ids, texts and columns of the items",
    POPULARITY: "number of interactions of each item, and whether training knew the item",
    "sids/S.parquet": "semantic IDs; S.codebooks.parquet",
    "embeddings/E.parquet": "text embeddings that the semantic IDs were made from; E.encoder.parquet",
    GRAPH: "with --onnx: one function evaluation; model.onnx.data where it is larger than 2 GB",
    IDS: "with --onnx: ids of the items in the order of their numbers",
    PROGRAM: "with --onnx: a program that needs only numpy and onnxruntime",
}


class Manifest(TypedDict):
    """Content of bundle.json."""

    format: int
    version: str
    commit: str | None
    run: str
    dataset: str
    written: str
    files: dict[str, str]


def is_bundle(folder: Path) -> bool:
    """Return True if a folder holds a manifest."""
    try:
        return (folder / MANIFEST).is_file()
    except OSError:  # no valid file name
        return False


def run_of(folder: Path, name: str) -> Run:
    """Return the paths of the run's files in a bundle."""
    return Run(name, folder)


def dataset_of(folder: Path, name: str) -> Dataset:
    """Return the paths of the data set's files in a bundle: those of a data set without users."""
    return Dataset(name, folder)


def write_manifest(folder: Path, run: str, dataset: str) -> None:
    """Write the manifest of the files of a folder.

    Args:
        run: name of the run.
        dataset: name of its data set.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, CARD))
    manifest: Manifest = {
        "format": FORMAT,
        "version": __version__,
        "commit": artifacts.commit(),
        "run": run,
        "dataset": dataset,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": {path.relative_to(folder).as_posix(): artifacts.file_digest(path) for path in paths},
    }
    artifacts.write_json(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle and check the digests of all its files.

    Raises:
        UserError: a file is missing, cannot be read, or is not the one that was exported, or the bundle has
            another format.
    """
    advice = "Export or download the bundle again."
    path = folder / MANIFEST
    number = artifacts.read_json(path, advice=advice).get("format")
    if number != FORMAT:
        raise UserError(
            f"{path} has format {quoted(number)}; maskgr {__version__} reads format {FORMAT} only. Export "
            "the run again with this version, or install the version that wrote the bundle."
        )
    manifest: Manifest = artifacts.read_json(path, Manifest, advice)
    for name, sha256 in manifest["files"].items():
        inner = PurePosixPath(name)
        if inner.is_absolute() or ".." in inner.parts:
            raise UserError(f"{path} names {quoted(name)}, which does not lie in the bundle. {advice}")
        try:
            found = artifacts.file_digest(folder / inner)
        except FileNotFoundError:
            raise UserError(f"{folder / inner} is missing from the bundle. {advice}") from None
        except OSError as error:
            raise UserError(f"{folder / inner} cannot be read ({error.strerror}). {advice}") from None
        if found != sha256:
            raise UserError(f"{folder / inner} is not the file that was exported. {advice}")
    return manifest
