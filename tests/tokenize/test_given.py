"""Semantic IDs of other programs: every form of file, deduplication, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.data.catalogue import load_sids
from pipelines.errors import UserError
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.config import TokenizeConfig
from pipelines.tokenize.extend import extend_sids
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress
from tests.tokenize.test_build import embed, grouped, read_sids

IDS = [f"item-{i}" for i in range(60)]
CODES = np.stack(np.unravel_index(np.arange(60), (4, 3, 5)), axis=1)  # [60, 3], distinct


def tokens(row: np.ndarray) -> list[str]:
    return [f"<{letter}_{code}>" for letter, code in zip("abc", row, strict=True)]


def index(path: Path, codes: np.ndarray) -> None:
    path.write_text(json.dumps({key: tokens(row) for key, row in zip(IDS, codes, strict=True)}))


def list_column(path: Path, codes: np.ndarray) -> None:
    pq.write_table(pa.table({"item_id": IDS, "title": ["x"] * 60, "sid": list(codes)}), path)


def columns(path: Path, codes: np.ndarray) -> None:
    rows = [",".join([key, *map(str, row)]) for key, row in zip(IDS, codes, strict=True)]
    path.write_text("\n".join(["item_id,a,b,c", *rows]))


def text(path: Path, codes: np.ndarray) -> None:
    rows = [f"{key};{''.join(tokens(row))}" for key, row in zip(IDS, codes, strict=True)]
    path.write_text("\n".join(["item_id;tokens", *rows]))


def json_lines(path: Path, codes: np.ndarray) -> None:
    lines = [{"item_id": key, "codes": row.tolist()} for key, row in zip(IDS, codes, strict=True)]
    path.write_text("\n".join(map(json.dumps, lines)))


FORMS = {
    "x.index.json": index,
    "x.parquet": list_column,
    "x.csv": columns,
    "x.txt": text,
    "x.jsonl": json_lines,
}


@pytest.fixture
def dataset(toy: Workspace) -> Dataset:
    return toy.dataset("toy")


@pytest.mark.parametrize("name", FORMS)
def test_distinct_ids_are_taken_as_they_are(
    dataset: Dataset, progress: ListProgress, tmp_path: Path, name: str
) -> None:
    FORMS[name](tmp_path / name, CODES)
    config = TokenizeConfig(source=str(tmp_path / name))
    path = build_sids(dataset, config, progress)
    assert path == dataset.sids("x")
    np.testing.assert_array_equal(read_sids(path), CODES)
    recorded = artifacts.provenance(path)
    assert (recorded["config"]["num_levels"], recorded["config"]["codebook"]) == (2, 5)
    assert set(recorded["inputs"]) == {"items", "codes"}
    np.testing.assert_array_equal(load_sids(dataset, "x").sids, CODES)
    build_sids(dataset, config, progress)
    assert "up to date" in progress.messages[-1]
    with pytest.raises(UserError, match="came from a file .*maskgr tokenize --from FILE --name x"):
        extend_sids(dataset, "x", progress)


def test_equal_ids_get_a_deduplication_digit(
    dataset: Dataset, progress: ListProgress, tmp_path: Path
) -> None:
    """Five items share the first digits, and there are five codes; a sixth needs a second digit."""
    for shared, digits in ((5, 1), (6, 2)):
        codes = CODES.copy()
        codes[:shared] = codes[0]
        list_column(tmp_path / "x.parquet", codes)
        sids = read_sids(build_sids(dataset, TokenizeConfig(source=str(tmp_path / "x.parquet")), progress))
        np.testing.assert_array_equal(sids[:, :3], codes)
        assert sids.shape[1] == 3 + digits
        assert sids[:shared, -1].tolist() == [i % 5 for i in range(shared)]
        assert not sids[shared:, 3:].any()
    assert any("2 such digits follow, H = m + 2 = 5" in message for message in progress.messages)


def test_embeddings_are_an_input_where_there_are_some(
    dataset: Dataset, progress: ListProgress, tmp_path: Path
) -> None:
    """Models that read text embeddings find them by the semantic IDs."""
    embed(dataset, grouped())
    index(tmp_path / "x.json", CODES)
    path = build_sids(dataset, TokenizeConfig(source=str(tmp_path / "x.json")), progress)
    assert artifacts.provenance(path)["inputs"]["embeddings"]["path"] == "../embeddings/lsa.parquet"
    rows = artifacts.read(dataset.quality("x"), "quality").to_pylist()
    assert "neighbour_agreement" in {row["measure"] for row in rows}


def other(**entries: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(
        json.dumps({key: tokens(row) for key, row in zip(IDS, CODES, strict=True)} | entries)
    )


REFUSED = {
    "lengths": (
        other(**{"item-7": ["<a_1>"]}),
        "the codes of item item-7 are '<a_1>'; expected 3 whole numbers",
    ),
    "letters": (
        other(**{"item-7": ["<b_1>", "<a_1>", "<c_1>"]}),
        "item-7 .*with the same letters for every item",
    ),
    "range": (
        other(**{"item-7": ["<a_1>", "<b_1>", "<c_40000>"]}),
        "item item-7 has the code 40000; .*32,766",
    ),
    "missing": (
        lambda path: path.write_text(json.dumps({key: tokens(CODES[0]) for key in IDS[:50]})),
        "no codes of 10 of the 60 items, e.g. item-50. Give a file with all items",
    ),
    "no codes": (
        lambda path: path.write_text("\n".join(["item_id,price", *(f"{key},0.5" for key in IDS)])),
        "needs one column of codes, called sid .*besides the ids it has price",
    ),
    "words": (
        lambda path: path.write_text("\n".join(["item_id,sid", *(f"{key},red soap" for key in IDS)])),
        "the codes of item item-0 are 'red soap'",
    ),
    "not there": (lambda path: None, "--from .* does not exist or is not a file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_files(dataset: Dataset, progress: ListProgress, tmp_path: Path, case: str) -> None:
    write, message = REFUSED[case]
    write(tmp_path / "x.json")
    with pytest.raises(UserError, match=message):
        build_sids(dataset, TokenizeConfig(source=str(tmp_path / "x.json")), progress)
    assert not dataset.all_sids


@pytest.mark.parametrize(
    "option", [{"num_levels": 3}, {"method": "random"}, {"codebook": 8}, {"normalize": True}]
)
def test_options_without_effect_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match="has no effect on --from, which names the codes themselves. Leave it out"
    ):
        TokenizeConfig(source="x.json", **option)


def test_the_command(dataset: Dataset, tmp_path: Path, maskgr: Callable[..., CompletedProcess[str]]) -> None:
    index(tmp_path / "theirs.index.json", CODES)
    done = maskgr("tokenize", "--from", tmp_path / "theirs.index.json")
    assert done.returncode == 0, done.stderr
    assert "Making SIDs theirs of toy." in done.stderr
    assert "60 items. Before the deduplication digit" in done.stdout
    assert "nearest neighbors" not in done.stdout
