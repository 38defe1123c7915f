"""What lies in a workspace and what of it is stale, gathered from metadata: no column is read but small reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.workspace import Dataset, Run, RunConfig, Workspace


@dataclass(frozen=True)
class EmbeddingsView:
    """One file of embeddings; sizes are None where it cannot be read."""

    name: str
    items: int | None
    width: int | None
    dtype: str | None
    stale: str | None


@dataclass(frozen=True)
class SidsView:
    """One file of semantic IDs: H digits; V and collisions are None where nothing tells them."""

    name: str
    items: int | None
    digits: int | None
    codebook: int | None
    collisions: int | None
    stale: str | None


@dataclass(frozen=True)
class DatasetView:
    """One data set; interactions are those in the sequences."""

    name: str
    current: bool
    users: int | None
    items: int | None
    interactions: int | None
    embeddings: list[EmbeddingsView]
    sids: list[SidsView]
    stale: str | None


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation of a run: (metric, k) → value as a fraction."""

    name: str
    users: int | None
    metrics: dict[tuple[str, int | None], float]
    stale: str | None


@dataclass(frozen=True)
class RunView:
    """One run: its config.json, of which any key may be missing, and its evaluations."""

    name: str
    config: RunConfig
    evaluations: list[EvaluationView]
    stale: str | None

    @property
    def best(self) -> float | None:
        """Best Recall@10 on the validation users so far, as a fraction."""
        return (self.config.get("best") or {}).get("recall@10")


@dataclass(frozen=True)
class Overview:
    """A whole workspace; runs oldest first."""

    datasets: list[DatasetView]
    runs: list[RunView]


def overview(workspace: Workspace) -> Overview:
    """Gather what a workspace holds; what cannot be read is listed as such, not raised."""
    staleness = _Staleness(workspace)
    try:
        current = workspace.require_dataset().name
    except UserError:
        current = None
    return Overview(
        [_dataset(dataset, dataset.name == current, staleness) for dataset in workspace.datasets],
        [_run(run, staleness) for run in workspace.runs],
    )


class _Staleness:
    """Why artifacts are stale, each looked at once: an input that changed, or is stale itself."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.known: dict[Path, str | None] = {}

    def __call__(self, path: Path) -> str | None:
        path = path.resolve()
        if path not in self.known:
            self.known[path] = None  # of one that names itself as its input
            self.known[path] = self._look(path)
        return self.known[path]

    def run(self, config: RunConfig) -> str | None:
        """The same for a run, whose inputs are known by the names of its data set and SIDs."""
        dataset, sids = config.get("dataset"), config.get("sids")
        inputs = config.get("inputs") or {}
        if not dataset:
            return None
        data = self.workspace.dataset(dataset)
        sources = {"sequences": data.sequences, **({"sids": data.sids(sids)} if sids else {})}
        return self._first_changed(
            {name: (path, inputs[name]["sha256"]) for name, path in sources.items() if name in inputs}
        )

    def _look(self, path: Path) -> str | None:
        if _metadata(path) is None:
            return f"{path.name} is not readable" if path.exists() else f"{path.name} does not exist"
        recorded = (artifacts.provenance(path) or {}).get("inputs", {})
        return self._first_changed(
            {name: (path.parent / entry["path"], entry["sha256"]) for name, entry in recorded.items()}
        )

    def _first_changed(self, inputs: dict[str, tuple[Path, str]]) -> str | None:
        for name, (source, sha256) in inputs.items():
            try:
                ours = self._is_artifact(source)
                if source.is_file():
                    if artifacts.digest(source) != sha256 or (
                        ours and source.suffix == ".parquet" and self(source)
                    ):
                        return f"its {name} changed"
                elif ours:  # downloads and a person's own files may go once they are used
                    return f"its {name} cannot be found"
            except OSError:  # a path that no file can have, or that may not be read
                return f"its {name} cannot be read"
        return None

    def _is_artifact(self, path: Path) -> bool:
        root = self.workspace.root.resolve()
        return any(path.resolve().is_relative_to(root / folder) for folder in ("datasets", "runs"))


def _dataset(dataset: Dataset, current: bool, staleness: _Staleness) -> DatasetView:
    sequences, items = _metadata(dataset.sequences), _metadata(dataset.items)
    return DatasetView(
        name=dataset.name,
        current=current,
        users=sequences and sequences.num_rows,
        items=items and items.num_rows,
        interactions=sequences and _values(sequences, "items"),
        embeddings=[_embeddings(path, staleness) for path in dataset.all_embeddings],
        sids=[_sids(dataset, path, staleness) for path in dataset.all_sids],
        stale=staleness(dataset.items) or staleness(dataset.sequences),
    )


def _embeddings(path: Path, staleness: _Staleness) -> EmbeddingsView:
    metadata, lists = _metadata(path), _lists(path, "embedding")
    return EmbeddingsView(
        name=path.stem,
        items=metadata and metadata.num_rows,
        width=lists and lists.list_size,
        dtype=lists
        and {"halffloat": "float16", "float": "float32", "double": "float64"}.get(
            str(lists.value_type), str(lists.value_type)
        ),
        stale=staleness(path),
    )


def _sids(dataset: Dataset, path: Path, staleness: _Staleness) -> SidsView:
    metadata, lists = _metadata(path), _lists(path, "sid")
    report = dataset.quality(path.stem)
    try:
        rows = (
            []
            if artifacts.stale(report, inputs={"sids": path})
            else artifacts.read(report, "quality").to_pylist()
        )
    except UserError:
        rows = []
    return SidsView(
        name=path.stem,
        items=metadata and metadata.num_rows,
        digits=lists and lists.list_size,
        codebook=(artifacts.provenance(path) or {}).get("config", {}).get("codebook"),
        collisions=next((int(row["value"]) for row in rows if row["measure"] == "collisions"), None),
        stale=staleness(path),
    )


def _run(run: Run, staleness: _Staleness) -> RunView:
    evaluations = [_evaluation(folder, staleness) for folder in run.evaluations]
    try:
        config = run.read_config()
        return RunView(run.name, config, evaluations, staleness.run(config))
    except UserError:
        return RunView(run.name, {}, evaluations, f"{run.config.name} is not readable")


def _evaluation(folder: Path, staleness: _Staleness) -> EvaluationView:
    path = folder / "metrics.parquet"
    try:
        rows = artifacts.read(path, "metrics").to_pylist()
    except UserError:
        return EvaluationView(folder.name, None, {}, f"{path.name} is not readable")
    return EvaluationView(
        folder.name,
        rows[0]["users"],
        {(row["metric"], row["k"]): row["value"] for row in rows},
        staleness(path),
    )


def _metadata(path: Path) -> pq.FileMetaData | None:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return None


def _values(metadata: pq.FileMetaData, column: str) -> int:
    """How many values a list column holds in all its rows, from the metadata alone."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    return sum(chunk.num_values for chunk in chunks if chunk.path_in_schema.split(".")[0] == column)


def _lists(path: Path, column: str) -> pa.FixedSizeListType | None:
    """The type of a fixed-size list column; None where there is no such column."""
    try:
        kind = pq.read_schema(path).field(column).type
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None
    return kind if pa.types.is_fixed_size_list(kind) else None
