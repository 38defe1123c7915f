"""Embeddings of items that a data set has gained, made by the encoder as it was fitted. Old vectors stay."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines import artifacts
from pipelines.artifacts import Provenance
from pipelines.data import items as data_items
from pipelines.durable import inside, together
from pipelines.embed import lsa, transformer
from pipelines.embed.build import embeddings_tables
from pipelines.embed.config import INTERACTIONS, LSA, EmbedConfig
from pipelines.embed.place import place_missing
from pipelines.embed.texts import stored
from pipelines.errors import UserError
from pipelines.formats import Source
from pipelines.processes import process_state
from pipelines.progress import Progress
from pipelines.workspace import Dataset


def extend_embeddings(dataset: Dataset, name: str, progress: Progress) -> Path:
    """Give the items that a data set has gained their embeddings.

    The first rows of items.parquet must be the items of the embeddings. Their vectors stay as they are, bit
    for bit. The text of a new item is encoded by the encoder as fitted. A new item without a vector, and with
    `--encoder interactions` each new item, takes the mean vector of the items of the fit that it co-occurs
    with in training.

    Args:
        name: name of the embeddings.

    Returns:
        path of the embeddings.

    Raises:
        UserError: the embeddings cannot be extended; the message says why and what to do.
    """
    with together(dataset.path) as new:
        write_extended(dataset, dataset, name, inside(new, "embeddings"), progress)
    return dataset.embeddings(name)


def write_extended(dataset: Dataset, grown: Dataset, name: str, folder: Path, progress: Progress) -> Path:
    """Write extended embeddings into a folder, see `extend_embeddings`.

    Args:
        dataset: data set that holds the embeddings and the sequences.
        grown: paths at which the grown items lie, the same data set or files that will replace it.
        folder: folder that is moved into place later.

    Returns:
        path of the extended embeddings in `folder`.
    """
    started = time.monotonic()
    path = dataset.embeddings(name)
    old = artifacts.matrix(artifacts.read(path, "embeddings"), "embedding", path)  # [n, E]
    items = data_items.read_items(grown)
    again = f"maskgr embed --force --name {name}"
    provenance = data_items.require_grown(path, len(old), items, again, progress)
    config, fitted = _config(path, name, provenance), data_items.fitted_count(provenance, len(old))
    rows = np.arange(len(old), len(items))  # [new]
    values = np.concatenate([old, np.zeros((len(rows), old.shape[1]), old.dtype)])  # [N, E]
    texts = np.array([bool(text.strip()) for text in items["text"].to_pylist()])  # [N]
    if config.kind == INTERACTIONS:
        texts[:fitted], texts[fitted:] = True, False
    encoded = rows[texts[rows]]  # [t]
    if len(encoded):
        encode = _encoder(dataset, config, provenance, progress)
        vectors = encode([text.strip() for text in items["text"].take(encoded).to_pylist()])
        values[encoded] = stored(vectors, encoded, config)
    placed = rows[~values[rows].any(axis=1)]  # [r]
    anchors = texts & (np.arange(len(items)) < fitted)  # [N]
    values[placed] = stored(place_missing(dataset, values, anchors, placed, progress), placed, config)
    written = artifacts.write(
        folder / path.name,
        "embeddings",
        lambda: embeddings_tables(values),
        config={**provenance["config"], data_items.KEY: data_items.identity(items, fitted)},
        recorded=_inputs(dataset, grown, provenance, bool(len(placed))),
        started=started,
    )
    data_items.keep_age(path, written)
    return written


def _inputs(dataset: Dataset, grown: Dataset, provenance: Provenance, placed: bool) -> dict[str, Source]:
    """Return the inputs of extended embeddings: those of the old ones, with the items and sequences of today.

    Args:
        placed: items took their place by co-occurrence, so that the sequences are an input.
    """
    inputs = {
        **provenance["inputs"],
        "items": Source(path="../items.parquet", sha256=artifacts.digest(grown.items)),
    }
    if placed or "sequences" in inputs:
        inputs["sequences"] = Source(path="../sequences.parquet", sha256=artifacts.digest(dataset.sequences))
    return inputs


def _config(path: Path, name: str, provenance: Provenance) -> EmbedConfig:
    """Return the configuration with which embeddings were made.

    Raises:
        UserError: they come from a file, or their encoder runs code of its own.
    """
    recorded = provenance["config"]
    if recorded.get("encoder") is None:
        raise UserError(
            f"{path} came from a file and cannot be extended. Run `maskgr embed --from FILE --name {name}` "
            "with a file that has the new items."
        )
    if recorded.get("trust_remote_code"):
        raise UserError(
            f"The encoder of {path} runs code of its own, which needs your consent each time. Run `maskgr "
            f"embed --encoder {recorded['encoder']} --trust-remote-code --force --name {name}`."
        )
    fields = ("encoder", "normalize", "dtype", "dimensions", "seed", "max_length")
    return EmbedConfig(name=name, **{field: recorded[field] for field in fields if field in recorded})


def _encoder(
    dataset: Dataset, config: EmbedConfig, provenance: Provenance, progress: Progress
) -> Callable[[list[str]], np.ndarray]:
    """Return the function from texts to vectors [n, E] with which embeddings were made.

    Raises:
        UserError: the encoder is missing or is another one now.
    """
    name = config.output_name
    again = f"Run `maskgr embed --encoder {config.origin} --force --name {name}`."
    if config.kind == LSA:
        path = dataset.encoder(name)
        source = provenance["inputs"].get("encoder")
        if source is None or not artifacts.has_digest(path, source["sha256"]):
            raise UserError(f"{path} is missing or not the encoder of embeddings {name}. {again}")
        return lsa.Encoder.read(path).encode
    if transformer.fingerprint(config.origin) != provenance["config"].get("weights"):
        raise UserError(f"The encoder {config.origin} is another one than made embeddings {name}. {again}")
    encoder = transformer.load(config, process_state(), progress)

    def encode(texts: list[str]) -> np.ndarray:
        size = encoder.batch_size
        return np.concatenate([encoder.encode(texts[i : i + size]) for i in range(0, len(texts), size)])

    return encode
