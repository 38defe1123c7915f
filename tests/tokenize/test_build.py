"""The tokenize stage on a real workspace: what it writes, what it skips, what it refuses."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.tokenize.build import build_sids
from pipelines.tokenize.config import METHODS, TokenizeConfig, default_name
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress, write_toy

SMALL = TokenizeConfig(num_levels=2, codebook=8)


def embed(dataset: Dataset, vectors: np.ndarray, name: str = "lsa") -> Path:
    table = pa.table(
        {"item": pa.array(range(len(vectors)), pa.int32()), "embedding": artifacts.fixed_size_list(vectors)}
    )
    return artifacts.write(
        dataset.embeddings(name), "embeddings", table, config={}, inputs={"items": dataset.items}
    )


def grouped(seed: int = 0, items: int = 60) -> np.ndarray:
    """Six well separated groups of ten, as the toy's texts have it: float32 [items, 8]."""
    rng = np.random.default_rng(seed)
    return (np.repeat(10 * np.eye(6, 8), items // 6, axis=0) + rng.normal(0, 0.5, (items, 8))).astype(
        np.float32
    )


@pytest.fixture
def dataset(toy: Workspace) -> Dataset:
    data = toy.dataset("toy")
    embed(data, grouped())
    return data


def read_sids(path: Path) -> np.ndarray:
    return artifacts.matrix(artifacts.read(path, "sids"), "sid", path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_sids_are_unique_and_of_the_declared_type(
    dataset: Dataset, progress: ListProgress, dtype: Any
) -> None:
    embed(dataset, grouped().astype(dtype))
    path = build_sids(dataset, SMALL, progress)
    assert path == dataset.sids("lsa-2x8")
    assert pq.read_schema(path).field("sid").type == pa.list_(pa.int16(), 3)
    sids = read_sids(path)
    assert sids.shape == (60, 3)
    assert len(np.unique(sids, axis=0)) == 60
    assert 0 <= sids.min() <= sids.max() < 8
    assert (
        len({tuple(np.unique(sids[g : g + 10, 0])) for g in range(0, 60, 10)}) >= 4
    )  # groups have codes of their own
    quality = artifacts.read(dataset.quality("lsa-2x8"), "quality")
    assert quality["level"].to_pylist().count(-1) == 5


def test_normalise_clusters_directions(dataset: Dataset, progress: ListProgress) -> None:
    vectors = grouped()
    plain = read_sids(build_sids(dataset, TokenizeConfig(2, 8, normalize=True), progress))
    embed(dataset, vectors * np.linspace(0.1, 9, 60, dtype=np.float32)[:, None])
    assert np.array_equal(
        read_sids(build_sids(dataset, TokenizeConfig(2, 8, normalize=True), progress)), plain
    )
    assert not np.array_equal(read_sids(build_sids(dataset, SMALL, progress)), plain)


def test_made_again_only_for_a_reason(dataset: Dataset, progress: ListProgress) -> None:
    def said(config: TokenizeConfig = SMALL, **options: Any) -> str:
        build_sids(dataset, config, progress, **options)
        return progress.messages[-1]

    assert said() == "Making SIDs lsa-2x8 of toy from its embeddings lsa."
    first = read_sids(dataset.sids("lsa-2x8"))
    assert "up to date" in said()
    assert "again (as requested)" in said(force=True)
    assert "its configuration changed (iterations)" in said(
        TokenizeConfig(2, 8, iterations=3), name="lsa-2x8"
    )
    dataset.quality("lsa-2x8").unlink()
    assert "again (its configuration changed" in said()
    dataset.quality("lsa-2x8").unlink()
    assert "again (lsa-2x8.quality.parquet does not exist)" in said()
    assert np.array_equal(read_sids(dataset.sids("lsa-2x8")), first)
    embed(dataset, grouped(seed=1))
    assert "again (its embeddings changed)" in said()
    assert "SIDs lsa-2x8-s7 of toy" in said(TokenizeConfig(2, 8, seed=7))
    assert "SIDs lsa-2x8-i3-unit of toy" in said(TokenizeConfig(2, 8, iterations=3, normalize=True))
    embed(dataset, grouped(seed=2), name="other")
    assert "SIDs other-2x8 of toy from its embeddings other." in said()  # the newest embeddings
    assert "SIDs mine of toy from its embeddings lsa." in said(embedding="lsa", name="mine")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_levels": 0}, "--sids is 0; it must be between 1 and 256"),
        ({"codebook": 1}, "--codebook is 1; it must be between 2 and 32,767"),
        ({"codebook": 32768}, "--codebook is 32768"),
        ({"seed": -1}, "--seed is -1"),
        ({"iterations": 0}, "--iterations is 0"),
        ({"method": "rqvae", "steps": 0}, "--steps is 0"),
        ({"method": "k-means"}, "--method 'k-means' is unknown; choose kmeans, random, rqvae, pq, opq"),
        ({"steps": 9}, "--steps means nothing to --method kmeans. Leave it out."),
        ({"method": "random", "iterations": 9}, "--iterations means nothing to --method random"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        TokenizeConfig(**options)


def test_defaults_are_those_of_the_method() -> None:
    assert (TokenizeConfig().iterations, TokenizeConfig().steps) == (25, None)
    assert (TokenizeConfig(method="rqvae").iterations, TokenizeConfig(method="rqvae").steps) == (25, 3000)
    assert TokenizeConfig(method="random").iterations is None
    assert TokenizeConfig(num_levels=32, codebook=32767).num_levels == 32  # digits are numbers of their own


def test_names_tell_methods_and_seeds_apart() -> None:
    assert default_name("lsa", TokenizeConfig()) == "lsa-4x256"
    assert default_name("lsa", TokenizeConfig(2, 64, seed=7)) == "lsa-2x64-s7"
    assert default_name("lsa", TokenizeConfig(16, 256, "opq")) == "lsa-16x256-opq"
    assert default_name("lsa", TokenizeConfig(method="random", seed=1)) == "lsa-4x256-random-s1"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_distinct_sids_with_a_report(
    dataset: Dataset, progress: ListProgress, method: str
) -> None:
    config = TokenizeConfig(5, 16, method, **{"steps": 20} if method == "rqvae" else {})
    path = build_sids(dataset, config, progress)
    sids = read_sids(path)
    assert path.stem == default_name("lsa", config)
    assert sids.shape == (60, 6) and sids.dtype == np.int16
    assert len(np.unique(sids, axis=0)) == 60
    assert 0 <= sids.min() <= sids.max() < 16
    assert method != "random" or len(np.unique(sids[:, 5])) > 8  # drawn like the others
    recorded = artifacts.provenance(path)["config"]
    assert recorded.pop("items")["fitted"] == 60
    assert recorded == {k: v for k, v in dataclasses.asdict(config).items() if k not in ("source", "sample")}
    assert dataset.codebooks(path.stem).exists() == (method != "random")
    rows = artifacts.read(dataset.quality(path.stem), "quality").to_pylist()
    found = {(row["level"], row["measure"]): row["value"] for row in rows}
    assert [found[digit, "codes_used"] for digit in range(5)] == [
        len(np.unique(column)) for column in sids[:, :5].T
    ]
    assert [(digit, "relative_error") in found for digit in range(5)] == [method != "random"] * 5
    assert (found[-1, "neighbour_agreement"] < 2 * found[-1, "chance_agreement"]) == (method == "random")
    build_sids(dataset, config, progress)
    assert "up to date" in progress.messages[-1]


EQUAL = np.ones((60, 4), np.float32)
MANY = {
    "equal": (
        EQUAL,
        "60 items of toy have equal codes, e.g. item_id item-0, more than the 4 .*: 3 such digits "
        r"follow, H = m \+ 3 = 4\. Their embeddings are equal: distinct texts tell them apart\.",
    ),
    "close": (grouped(), r"[0-9]+ items of toy .* More digits \(--sids\), a larger --codebook or other emb"),
}


@pytest.mark.parametrize("case", MANY)
def test_more_equal_items_than_codes_get_further_digits(
    dataset: Dataset, progress: ListProgress, case: str
) -> None:
    """The digits after the first m = 1 number the items of a group in item order, in base V = 4."""
    vectors, message = MANY[case]
    embed(dataset, vectors)
    path = build_sids(dataset, TokenizeConfig(1, 4), progress)
    sids = read_sids(path).astype(int)
    assert re.search(message, progress.messages[-1])
    assert len(np.unique(sids, axis=0)) == 60 and sids.max() < 4
    numbers = sids[:, 1:] @ 4 ** np.arange(sids.shape[1] - 2, -1, -1)
    for code in np.unique(sids[:, 0]):
        group = numbers[sids[:, 0] == code]
        assert group.tolist() == list(range(len(group)))
    assert 4 ** (sids.shape[1] - 1) >= max(np.bincount(sids[:, 0])) > 4 ** (sids.shape[1] - 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spread", [0.0, 1e-6])
def test_equal_and_nearly_equal_vectors_warn_of_nothing(
    dataset: Dataset, progress: ListProgress, capfd: pytest.CaptureFixture[str], method: str, spread: float
) -> None:
    embed(dataset, EQUAL + spread * grouped()[:, :4])
    config = TokenizeConfig(2, 8, method, **{"steps": 20} if method == "rqvae" else {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_sids(dataset, config, progress)
    assert capfd.readouterr() == ("", "")


def test_random_ids_need_no_embeddings(toy: Workspace, progress: ListProgress) -> None:
    data = toy.dataset("toy")
    path = build_sids(data, TokenizeConfig(2, 8, "random"), progress)
    assert path == data.sids("random-2x8")
    assert set(artifacts.provenance(path)["inputs"]) == {"items"}
    measures = {row["measure"] for row in artifacts.read(data.quality(path.stem), "quality").to_pylist()}
    assert "chance_agreement" in measures and "neighbour_agreement" not in measures
    embed(data, grouped())
    named = build_sids(data, TokenizeConfig(2, 8, "random"), progress)
    assert named == data.sids("lsa-2x8-random")
    np.testing.assert_array_equal(read_sids(named), read_sids(path))
    with pytest.raises(UserError, match="No embeddings 'bert'"):
        build_sids(data, TokenizeConfig(2, 8, "random"), progress, embedding="bert")


def test_hundreds_of_items_without_text_fit_in_the_codebook(
    workspace: Workspace, progress: ListProgress
) -> None:
    data = write_toy(workspace, items=600).dataset("toy")
    vectors = grouped(items=600)
    without = np.arange(0, 600, 3)
    vectors[without] = 0
    embed(data, vectors)
    sids = read_sids(build_sids(data, TokenizeConfig(2, 200), progress))
    assert len(np.unique(sids[without, :2], axis=0)) == 1  # 200 items, told apart by the last digit alone
    assert sids[without, 2].tolist() == list(range(200))


def wrong_type(dataset: Dataset) -> None:
    table = pa.table(
        {
            "item": pa.array(range(60), pa.int32()),
            "embedding": artifacts.fixed_size_list(np.ones((60, 2), np.int32)),
        }
    )
    artifacts.write(dataset.embeddings("lsa"), "embeddings", table, config={})


def broken_value(dataset: Dataset, value: float) -> None:
    vectors = grouped()
    vectors[17, 3] = value
    embed(dataset, vectors)


REFUSED = {
    "fewer rows": (
        lambda d: embed(d, grouped(items=54)),
        "has 54 rows but .*items.parquet has 60 items. Run `maskgr embed` again",
    ),
    "other items": (
        lambda d: artifacts.write(
            d.items,
            "items",
            artifacts.read(d.items, "items").append_column("note", pa.array(["new"] * 60)),
            config={},
        ),
        "made from other items than .*items.parquet now holds. Run `maskgr embed` again",
    ),
    "nan": (lambda d: broken_value(d, np.nan), "item 17 \\(item-17\\) holds NaN"),
    "infinite": (lambda d: broken_value(d, np.inf), "item 17 \\(item-17\\)"),
    "huge": (lambda d: broken_value(d, 1e30), "item 17 \\(item-17\\)"),
    "integers": (
        wrong_type,
        "column embedding is fixed_size_list<.*int32.*expected fixed-size lists of floats",
    ),
    "none": (lambda d: d.embeddings("lsa").unlink(), "No embeddings in .*Run `maskgr embed` first"),
    "not Parquet": (lambda d: d.embeddings("lsa").write_bytes(b"no"), "not a readable Parquet file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_embeddings(dataset: Dataset, progress: ListProgress, case: str) -> None:
    spoil, message = REFUSED[case]
    spoil(dataset)
    with pytest.raises(UserError, match=message):
        build_sids(dataset, SMALL, progress)
    assert not dataset.all_sids


def test_refused_names(dataset: Dataset, progress: ListProgress) -> None:
    with pytest.raises(UserError, match="No embeddings 'bert' in .*it holds lsa"):
        build_sids(dataset, SMALL, progress, embedding="bert")
    for name in ("a.quality", "a.codebooks"):
        with pytest.raises(UserError, match=f"cannot be named '{name}'"):
            build_sids(dataset, SMALL, progress, name=name)
    with pytest.raises(UserError, match="'../x' cannot be a name"):
        build_sids(dataset, SMALL, progress, name="../x")


def test_a_single_item_cannot_be_told_apart(workspace: Workspace, progress: ListProgress) -> None:
    data = write_toy(workspace, items=1).dataset("toy")
    embed(data, np.ones((1, 4), np.float32))
    with pytest.raises(UserError, match="holds a single item"):
        build_sids(data, SMALL, progress)


def test_own_embeddings_need_no_provenance(dataset: Dataset, progress: ListProgress) -> None:
    table = artifacts.read(dataset.embeddings("lsa"), "embeddings").replace_schema_metadata(None)
    pq.write_table(table, dataset.embeddings("own"))
    assert build_sids(dataset, SMALL, progress, embedding="own") == dataset.sids("own-2x8")
