"""List of the artifacts in a workspace, and the reason why each is stale.

Only metadata and small reports are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.formats import LEAVE_ONE_OUT
from pipelines.temporal import TemporalSplit
from pipelines.workspace import Dataset, Run, RunConfig, UnsupportedFormat, Workspace

DTYPE_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}  # pyarrow's → numpy's


@dataclass(frozen=True)
class EmbeddingsView:
    """One file of embeddings.

    Attributes:
        items: number of items.
        width: E.
        dtype: numpy name of the type.
        stale: reason why the file is stale; None if it is up to date.

    Sizes and type are None if the file cannot be read.
    """

    name: str
    items: int | None
    width: int | None
    dtype: str | None
    stale: str | None


@dataclass(frozen=True)
class SidsView:
    """One file of semantic IDs.

    Attributes:
        items: number of items.
        levels: m.
        digits: H.
        codebook: V.
        collisions: number of items that share all codes before the deduplication digit with another item.
        stale: reason why the file is stale; None if it is up to date.

    Numbers that no file states are None.
    """

    name: str
    items: int | None
    levels: int | None
    digits: int | None
    codebook: int | None
    collisions: int | None
    stale: str | None


@dataclass(frozen=True)
class TargetsView:
    """One file of soft targets.

    Attributes:
        teachers: names of the runs that they come from.
        places: number of items of the training sequences.
        items: number of items kept of each place.
        stale: reason why the file is stale; None if it is up to date.

    Numbers that no file states are None.
    """

    name: str
    teachers: list[str]
    places: int | None
    items: int | None
    stale: str | None


@dataclass(frozen=True)
class DatasetView:
    """One data set.

    Attributes:
        current: True for the data set that commands use if none is named.
        interactions: number of interactions in the sequences.
        split: "leave-one-out", or "temporal" with the times from which interactions validate and test.
        targets: soft targets, by name.
        external: evaluations of external lists, by name.
        stale: reason why the data set is stale; None if it is up to date.

    Sizes are None if a file cannot be read.
    """

    name: str
    current: bool
    users: int | None
    items: int | None
    interactions: int | None
    split: str
    embeddings: list[EmbeddingsView]
    sids: list[SidsView]
    targets: list[TargetsView]
    external: list[EvaluationView]
    stale: str | None


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation of a run or of external lists.

    Attributes:
        name: name of the decoding, or of the lists and the decoding.
        users: number of users; None if the metrics cannot be read.
        metrics: (metric, k) → value as a fraction.
        stale: reason why the evaluation is stale; None if it is up to date.
    """

    name: str
    users: int | None
    metrics: dict[tuple[str, int | None], float]
    stale: str | None


@dataclass(frozen=True)
class RunView:
    """One run.

    Attributes:
        config: content of config.json, from which any key may be missing; empty if it cannot be read.
        evaluations: evaluations, sorted by name.
        stale: reason why the run is stale; None if it is up to date.
    """

    name: str
    config: RunConfig
    evaluations: list[EvaluationView]
    stale: str | None

    @property
    def best(self) -> float | None:
        """Best Recall@10 on the validation users so far, as a fraction."""
        best = self.config.get("best")
        return best["recall@10"] if best else None


@dataclass(frozen=True)
class Overview:
    """All data sets and runs of a workspace; data sets by name, runs from the oldest to the newest."""

    datasets: list[DatasetView]
    runs: list[RunView]


def overview(workspace: Workspace) -> Overview:
    """List the artifacts of a workspace. An unreadable file is listed as stale and raises no error."""
    staleness = _Staleness(workspace)
    try:
        current = workspace.require_dataset().name
    except UserError:
        current = None
    return Overview(
        [_dataset(dataset, dataset.name == current, staleness) for dataset in workspace.datasets],
        [_run(run, staleness) for run in workspace.runs],
    )


def stale_evaluations(workspace: Workspace, run: Run) -> dict[str, str]:
    """Return the reasons why evaluations of a run are stale, by name; those up to date are left out."""
    staleness = _Staleness(workspace)
    views = [_evaluation(folder, folder.name, staleness) for folder in run.evaluations]
    return {view.name: view.stale for view in views if view.stale}


class _Staleness:
    """Reasons why artifacts are stale: an input changed, or an input is stale itself.

    Each artifact is checked once.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.known: dict[Path, str | None] = {}

    def __call__(self, path: Path) -> str | None:
        """Return the reason why an artifact is stale, or None."""
        path = path.resolve()
        if path not in self.known:
            self.known[path] = None  # ends the recursion of an artifact that names itself as its input
            self.known[path] = self._check(path)
        return self.known[path]

    def run(self, config: RunConfig) -> str | None:
        """Return the reason why a run is stale, or None.

        Its inputs are found by the names of its data set and SIDs. A committee is as stale as its members
        were, of which it has copies.
        """
        reasons = (self.run(member["config"]) for member in config.get("members", ()))
        if reason := next(filter(None, reasons), None):
            return reason
        if reason := self._of_earlier_training(config):
            return reason
        dataset, sids = config.get("dataset"), config.get("sids")
        inputs = config.get("inputs") or {}
        if not dataset:
            return None
        paths = {"sequences": self.workspace.dataset(dataset).sequences}
        if sids:
            paths["sids"] = self.workspace.dataset(dataset).sids(sids)
        return self._first_changed(
            {name: (path, inputs[name]["sha256"]) for name, path in paths.items() if name in inputs}
        )

    def _of_earlier_training(self, config: RunConfig) -> str | None:
        """Return a message if a final run was made from an earlier training of its run, or None."""
        final = config.get("final")
        if not final:
            return None
        try:
            present = self.workspace.run(final["of"]).read_config().get("weights")
        except UserError:  # the run was removed; the final run stays as it is
            return None
        return None if present == final["weights"] else f"{final['of']} was trained again"

    def _check(self, path: Path) -> str | None:
        if _metadata(path) is None:
            return f"{path.name} is not readable" if path.exists() else f"{path.name} does not exist"
        provenance = artifacts.provenance(path)
        inputs = provenance["inputs"] if provenance else {}
        return self._first_changed(
            {name: (path.parent / source["path"], source["sha256"]) for name, source in inputs.items()}
        )

    def _first_changed(self, inputs: dict[str, tuple[Path, str]]) -> str | None:
        """Return a message about the first input (name → path, recorded sha256) that changed, or None."""
        for name, (path, sha256) in inputs.items():
            try:
                in_workspace = self._is_artifact(path)
                if path.is_file():
                    if artifacts.digest(path) != sha256:
                        return f"its {name} changed"
                    if in_workspace and path.suffix == ".parquet" and self(path):
                        return f"its {name} changed"
                elif in_workspace:  # downloads and the user's own files are not needed after their use
                    return f"its {name} cannot be found"
            except OSError:  # no valid file name, or no permission to read
                return f"its {name} cannot be read"
        return None

    def _is_artifact(self, path: Path) -> bool:
        root = self.workspace.root.resolve()
        return any(path.resolve().is_relative_to(root / folder) for folder in ("datasets", "runs"))


def _dataset(dataset: Dataset, current: bool, staleness: _Staleness) -> DatasetView:
    sequences, items = _metadata(dataset.sequences), _metadata(dataset.items)
    users = sequences and sequences.num_rows
    interactions = sequences and _count_values(sequences, "items")
    if dataset.lists_files:
        users, interactions = _listed(dataset.sequences)
    split = TemporalSplit.of(dataset.sequences)
    return DatasetView(
        name=dataset.name,
        current=current,
        users=users,
        items=items and items.num_rows,
        interactions=interactions,
        split=split.name if split else LEAVE_ONE_OUT,
        embeddings=[_embeddings(path, staleness) for path in dataset.all_embeddings],
        sids=[_sids(dataset, path, staleness) for path in dataset.all_sids],
        targets=[_targets(path, staleness) for path in dataset.all_targets],
        external=[
            _evaluation(folder, f"{folder.parent.name}/{folder.name}", staleness)
            for folder in dataset.all_external
        ],
        stale=staleness(dataset.items) or staleness(dataset.sequences),
    )


def _listed(path: Path) -> tuple[int | None, int | None]:
    """Return the numbers of users and interactions of the files that a data set lists."""
    try:
        table = artifacts.read(path, "sequence_files")
    except UserError:
        return None, None
    return sum(table["users"].to_pylist()), sum(table["interactions"].to_pylist())


def _embeddings(path: Path, staleness: _Staleness) -> EmbeddingsView:
    metadata, column_type = _metadata(path), _list_type(path, "embedding")
    dtype = str(column_type.value_type) if column_type else None
    return EmbeddingsView(
        name=path.stem,
        items=metadata and metadata.num_rows,
        width=column_type and column_type.list_size,
        dtype=dtype and DTYPE_NAMES.get(dtype, dtype),
        stale=staleness(path),
    )


def _sids(dataset: Dataset, path: Path, staleness: _Staleness) -> SidsView:
    metadata, column_type = _metadata(path), _list_type(path, "sid")
    provenance = artifacts.provenance(path)
    settings = provenance["config"] if provenance else {}
    return SidsView(
        name=path.stem,
        items=metadata and metadata.num_rows,
        levels=settings.get("num_levels", column_type and column_type.list_size - 1),
        digits=column_type and column_type.list_size,
        codebook=settings.get("codebook"),
        collisions=_collisions(dataset.quality(path.stem), path),
        stale=staleness(path),
    )


def _targets(path: Path, staleness: _Staleness) -> TargetsView:
    metadata, column_type = _metadata(path), _list_type(path, "items")
    provenance = artifacts.provenance(path)
    inputs = provenance["inputs"] if provenance else {}
    return TargetsView(
        name=path.stem,
        teachers=[Path(s["path"]).parent.name for name, s in inputs.items() if name.startswith("teacher")],
        places=metadata and metadata.num_rows,
        items=column_type and column_type.list_size,
        stale=staleness(path),
    )


def _collisions(report: Path, sids: Path) -> int | None:
    """Return the number of collisions in the quality report.

    Returns:
        None if the report is missing or damaged, or if it was made from other semantic IDs.
    """
    try:
        if artifacts.stale(report, inputs={"sids": sids}):
            return None
        rows = artifacts.read(report, "quality").to_pylist()
    except UserError:
        return None
    return next((int(row["value"]) for row in rows if row["measure"] == "collisions"), None)


def _run(run: Run, staleness: _Staleness) -> RunView:
    evaluations = [_evaluation(folder, folder.name, staleness) for folder in run.evaluations]
    try:
        config = run.read_config()
        return RunView(run.name, config, evaluations, staleness.run(config))
    except UnsupportedFormat as error:
        return RunView(run.name, {}, evaluations, f"{run.config.name} has {error.found}: train it again")
    except UserError:
        return RunView(run.name, {}, evaluations, f"{run.config.name} is not readable")


def _evaluation(folder: Path, name: str, staleness: _Staleness) -> EvaluationView:
    path = folder / "metrics.parquet"
    try:
        rows = artifacts.read(path, "metrics").to_pylist()
    except UserError:
        return EvaluationView(name, None, {}, f"{path.name} is not readable")
    metrics = {(row["metric"], row["k"]): row["value"] for row in rows}
    return EvaluationView(name, rows[0]["users"], metrics, staleness(path))


def _metadata(path: Path) -> pq.FileMetaData | None:
    """Return the metadata of a Parquet file; None if it cannot be read."""
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return None


def _count_values(metadata: pq.FileMetaData, column: str) -> int:
    """Return the number of values that a list column holds in all rows, from the metadata alone."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    counts = [chunk.num_values for chunk in chunks if chunk.path_in_schema.split(".")[0] == column]
    return int(sum(counts))


def _list_type(path: Path, column: str) -> pa.FixedSizeListType | None:
    """Return the type of a column of fixed-size lists; None if there is no such column."""
    try:
        column_type = pq.read_schema(path).field(column).type
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None
    return column_type if pa.types.is_fixed_size_list(column_type) else None
