"""The embed stage on a real workspace: what it skips, what it keeps after a kill, and the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines import artifacts
from pipelines.embed import batches, transformer
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.workspace import Dataset
from tests.conftest import PATIENCE, ROOT, ListProgress
from tests.embed.conftest import TEXTS, write_items
from tests.embed.test_lsa import read

KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines.embed import transformer
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.progress import Silent
from pipelines.workspace import Workspace

encode, left = transformer.Encoder.encode, [int(sys.argv[3])]

def deadly(self, texts):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return encode(self, texts)

transformer.Encoder.encode = deadly
dataset = Workspace(Path(sys.argv[1])).dataset("toy")
build_embeddings(dataset, EmbedConfig(encoder=sys.argv[2], batch_size=4), Silent())
"""


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each batch that goes through an encoder."""
    sizes: list[int] = []
    encode = transformer.Encoder.encode

    def counted(self: transformer.Encoder, texts: list[str]) -> np.ndarray:
        sizes.append(len(texts))
        return encode(self, texts)

    monkeypatch.setattr(transformer.Encoder, "encode", counted)
    return sizes


def test_a_killed_run_goes_on_where_it_was(
    dataset: Dataset, bert: Path, progress: ListProgress, encoded: list[int]
) -> None:
    """30 texts in 8 batches of 4; the process dies with SIGKILL in the sixth."""
    workspace = dataset.path.parent.parent
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(workspace), str(bert), "5"], cwd=ROOT, timeout=PATIENCE
    )
    assert run.returncode == -signal.SIGKILL
    assert not dataset.embeddings("tiny-bert").exists()
    kept = sorted((dataset.path / "embeddings" / ".tiny-bert.parts").glob("*/*.npy"))
    assert len(kept) == 5
    kept[4].write_bytes(kept[4].read_bytes()[:50])  # as a lost write may leave it

    config = EmbedConfig(encoder=str(bert), batch_size=4)
    build_embeddings(dataset, config, progress)
    assert "4 of 8 batches were encoded by an earlier run and are kept." in progress.messages
    assert encoded == [4, 4, 4, 2]
    resumed = artifacts.digest(dataset.embeddings("tiny-bert"))
    assert not (dataset.path / "embeddings" / ".tiny-bert.parts").exists()
    build_embeddings(dataset, config, progress, force=True)
    assert sum(encoded) == 14 + 30
    assert artifacts.digest(dataset.embeddings("tiny-bert")) == resumed


@pytest.mark.parametrize("change", ["items", "batch_size", "normalize"])
def test_batches_of_other_work_are_not_taken(
    change: str,
    dataset: Dataset,
    bert: Path,
    progress: ListProgress,
    encoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"encoder": str(bert), "batch_size": 4}
    monkeypatch.setattr(artifacts, "write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build_embeddings(dataset, EmbedConfig(**settings), progress)
    monkeypatch.undo()
    if change == "items":
        write_items(dataset, [*TEXTS[:-1], "soap"])
    changed = {"batch_size": {"batch_size": 5}, "normalize": {"normalize": True}}.get(change, {})
    build_embeddings(dataset, EmbedConfig(**settings | changed), progress)
    assert not any("earlier run" in message for message in progress.messages)
    build_embeddings(dataset, EmbedConfig(**settings | changed, name="fresh"), progress)
    np.testing.assert_array_equal(read(dataset, "tiny-bert"), read(dataset, "fresh"))


def test_split_covers_every_text_once_longest_first() -> None:
    lengths = np.array([3, 9, 3, 7, 1, 9, 2])
    found = batches.split(lengths, 3)
    assert [b.tolist() for b in found] == [[1, 5, 3], [0, 2, 6], [4]]


def test_skips_what_is_up_to_date_and_says_why_it_remakes(dataset: Dataset, progress: ListProgress) -> None:
    path = build_embeddings(dataset, EmbedConfig(dimensions=4), progress)
    assert path == dataset.embeddings("lsa")
    assert progress.messages[-1].startswith("Embedded 30 items of toy with lsa: 4 dimensions, float32,")
    first = path.stat().st_mtime_ns
    build_embeddings(dataset, EmbedConfig(dimensions=4), progress)
    assert progress.messages[-1] == f"Embeddings lsa of toy are up to date ({path})."
    assert path.stat().st_mtime_ns == first
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    assert "Making embeddings lsa of toy again: its configuration changed (dimensions)." in progress.messages
    write_items(dataset, TEXTS[::-1])
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress)
    assert "Making embeddings lsa of toy again: its items changed." in progress.messages
    build_embeddings(dataset, EmbedConfig(dimensions=3), progress, force=True)
    assert "Making embeddings lsa of toy again: as requested." in progress.messages
    assert artifacts.stale(path) is None


def test_items_missing(dataset: Dataset, progress: ListProgress) -> None:
    dataset.items.unlink()
    with pytest.raises(
        UserError, match="items.parquet does not exist. Run `maskgr download toy` or `maskgr import toy"
    ):
        build_embeddings(dataset, EmbedConfig(), progress)


def test_command(dataset: Dataset, maskgr: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    made = maskgr("embed", "--dimensions", 4, "--name", "mine", "--dtype", "float16", "--no-normalize")
    assert made.returncode == 0, made.stderr
    assert "Embedded 30 items of toy with lsa: 4 dimensions, float16" in made.stderr
    config = artifacts.provenance(dataset.embeddings("mine"))["config"]
    items = config.pop("items")
    assert config == {"encoder": "lsa", "dimensions": 4, "seed": 0, "normalize": False, "dtype": "float16"}
    assert items["fitted"] == 30
    words = [text.split() for text in TEXTS]
    terms = [{*text, *zip(text, text[1:], strict=False)} for text in words]
    count, mean = len(set().union(*terms)), sum(map(len, terms)) / 30
    assert f"lsa: {count} terms (words and word pairs), {mean:.1f} per text on average." in made.stderr
    refused = maskgr("embed", "--processes", 2)
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: --gpus and --processes mean nothing to --encoder lsa. Leave them out.\n",
    )
