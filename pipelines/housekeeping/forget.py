"""Removal of users from a data set: their interactions and sequences, and their rows in evaluations.

Users are numbered by their rows in sequences.parquet, so that users after a removed one get lower numbers
there and in evaluations. Items stay, even if nobody takes them any more, with their numbers, vectors and
codes.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import artifacts, temporal
from pipelines.durable import Changes, changes
from pipelines.errors import UserError
from pipelines.housekeeping.mentions import files_with, without_ids
from pipelines.housekeeping.parts import RUN, Part, all_parts, find_part, members_of, read_object, sources
from pipelines.housekeeping.use import unused
from pipelines.options import quoted
from pipelines.workspace import Dataset, Workspace

ROWS = {
    "ranks.parquet": "ranks",
    "recommendations.parquet": "recommendations",
}  # file of an evaluation → kind
MOST_NAMED = 5  # users that a message names


@dataclass(frozen=True)
class Forgotten:
    """What was removed, and what is left to do.

    Attributes:
        users, interactions: numbers of what was removed.
        min_count: smallest number of interactions of an item when the data set was made; 0 if unknown.
        rare: number of items that had so many interactions before and have fewer now.
        pruned: evaluations whose rows of the users were removed.
        unassigned: evaluations of an earlier version of the data set, whose rows cannot be told apart.
        embeddings: embeddings that the interactions of all users decided.
        commands: command that trains a run again, for each run of the data set.
        others: other data sets that have users of these ids.
        files: files that have or may have the users still.
    """

    users: int
    interactions: int
    min_count: int
    rare: int
    pruned: list[str] = field(default_factory=list)
    unassigned: list[str] = field(default_factory=list)
    embeddings: list[str] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def rows_of_users(dataset: Dataset, users: Sequence[str]) -> np.ndarray:
    """Return the numbers of users, int64, ascending.

    Raises:
        UserError: there is no such user, or no other user would be left.
    """
    table = artifacts.read(dataset.sequences, "sequences", columns=["user_id"])
    ids = table["user_id"].cast(pa.string())
    wanted = list(dict.fromkeys(users))
    present = {*ids.filter(pc.is_in(ids, pa.array(wanted, pa.string()))).to_pylist()}
    if unknown := [user for user in wanted if user not in present]:
        more = f" and {len(unknown) - MOST_NAMED:,} more" if len(unknown) > MOST_NAMED else ""
        raise UserError(
            f"No user {', '.join(map(quoted, unknown[:MOST_NAMED]))}{more} in {dataset.sequences}. Ids are "
            "those of the import; nothing is removed."
        )
    rows: np.ndarray = np.flatnonzero(pc.is_in(ids, pa.array(wanted, pa.string())).to_numpy())
    if len(rows) == len(table):
        raise UserError(
            f"{dataset.name} has no other users. Remove it with: maskgr rm datasets/{dataset.name}"
        )
    return rows


def forget_users(workspace: Workspace, name: str | None, users: Sequence[str]) -> Forgotten:
    """Remove users from a data set and from the evaluations of its runs and of external lists, all or none.

    The provenance says how many users were removed, and when; it does not name them.

    Args:
        name: name of the data set; None for the current one.
        users: ids as imported.

    Raises:
        UserError: there is no such data set or user, no other user would be left, a running command works on
            the data set or a run of it, or a file cannot be read or written.
    """
    dataset = workspace.require_dataset(name)
    rows_of_users(dataset, users)
    part = find_part(workspace, f"datasets/{dataset.name}")
    runs = [run for run in all_parts(workspace, RUN) if part.name in sources(workspace, run)]
    with unused(workspace, [part, *runs]), changes(workspace.root) as made:
        shutil.rmtree(dataset.path / "targets", ignore_errors=True)  # soft targets of their sequences
        removal = _Removal(workspace, dataset, runs, [*dict.fromkeys(users)], made)
        removal.plan()
    return removal.outcome()


class _Removal:
    """Plan of a removal, and its outcome."""

    def __init__(
        self, workspace: Workspace, dataset: Dataset, runs: list[Part], users: list[str], made: Changes
    ) -> None:
        self.workspace, self.dataset, self.runs = workspace, dataset, runs
        self.users, self.changes = users, made
        self.rows = rows_of_users(dataset, users)
        self.old_digest = artifacts.digest(dataset.sequences)
        self.new_digest = ""
        self.interactions = self.rare = self.min_count = 0
        self.pruned: list[str] = []
        self.unassigned: list[str] = []

    def plan(self) -> None:
        """Write all new files into the staging folder."""
        interactions = self._plan_interactions()
        self._plan_sequences(interactions)
        folders = [folder for run in self.runs for folder in sorted((run.path / "eval").glob("[!.]*"))]
        for folder in [*folders, *self.dataset.all_external]:
            if folder.is_dir():
                self._plan_evaluation(folder)

    def _plan_interactions(self) -> str:
        """Plan the new interactions and return their digest."""
        table = artifacts.read(self.dataset.interactions, "interactions")
        gone = pc.is_in(table["user_id"].cast(pa.string()), pa.array(self.users, pa.string()))
        kept = table.filter(pc.invert(gone))
        self.interactions = len(table) - len(kept)
        provenance: Any = artifacts.provenance(self.dataset.interactions) or {}
        self.min_count = int(provenance.get("config", {}).get("min_count") or 0)
        before, after = (dict(_counts(part["item_id"])) for part in (table, kept))
        self.rare = sum(count >= self.min_count > after.get(item, 0) for item, count in before.items())
        account = without_ids(provenance.get("account") or {}, self.users)
        facts = {"users": len(self.rows), "interactions": self.interactions}
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        account["forgotten"] = [*account.get("forgotten", []), {**facts, "written": when}]
        return self._replace(self.dataset.interactions, kept, {**provenance, "account": account})

    def _plan_sequences(self, interactions: str) -> None:
        table = artifacts.read(self.dataset.sequences, "sequences")
        kept = table.filter(pa.array(~np.isin(np.arange(len(table)), self.rows)))
        numbers = pa.array(np.arange(len(kept)), pa.int32())
        kept = kept.set_column(kept.column_names.index("user"), "user", numbers)
        provenance: Any = artifacts.provenance(self.dataset.sequences) or {}
        inputs = dict(provenance.get("inputs", {}))
        if "interactions" in inputs:
            inputs["interactions"] = {**inputs["interactions"], "sha256": interactions}
        provenance = {**provenance, "inputs": inputs}
        if "split" in provenance.get("account", {}):
            kept = _measured_anew(kept)
            split = provenance["account"]["split"] | {"counts": temporal.count([kept])}
            provenance["account"] = {**provenance["account"], "split": split}
        self.new_digest = self._replace(self.dataset.sequences, kept, provenance)

    def _plan_evaluation(self, folder: Path) -> None:
        """Plan the rows of an evaluation without those of the users. Its metrics stay, and are stale."""
        name = folder.relative_to(self.workspace.root).as_posix()
        for path in (folder / file for file in ROWS if (folder / file).exists()):
            provenance: Any = artifacts.provenance(path) or {}
            inputs = provenance.get("inputs", {})
            table = artifacts.read(path, ROWS[path.name])
            numbers = table["user"].to_numpy()
            gone = np.isin(numbers, self.rows)
            if inputs.get("sequences", {}).get("sha256") != self.old_digest or gone.all():
                self.unassigned += [name] * (name not in self.unassigned)
                continue
            kept = table.filter(pa.array(~gone))
            moved = numbers[~gone] - np.searchsorted(self.rows, numbers[~gone])
            kept = kept.set_column(
                kept.column_names.index("user"), "user", pa.array(moved.astype(np.int32), pa.int32())
            )
            inputs = {**inputs, "sequences": {**inputs["sequences"], "sha256": self.new_digest}}
            self._replace(path, kept, {**provenance, "inputs": inputs})
            self.pruned += [name] * (name not in self.pruned)

    def _replace(self, path: Path, table: pa.Table, provenance: dict[str, Any]) -> str:
        """Plan a file's new content and provenance, and return its digest."""
        digest = artifacts.table_digest(table)
        text = json.dumps({**provenance, "sha256": digest}) if "stage" in provenance else None
        table = table.replace_schema_metadata({artifacts.PROVENANCE_KEY: text} if text else None)
        pq.write_table(table, self.changes.replace(path), compression="zstd", write_page_checksum=True)
        return digest

    def outcome(self) -> Forgotten:
        """Return what was removed and what is left to do, after the changes were made."""
        named = [dataset for dataset in self.workspace.datasets if dataset.name != self.dataset.name]
        return Forgotten(
            len(self.rows),
            self.interactions,
            self.min_count,
            self.rare,
            self.pruned,
            self.unassigned,
            [path.stem for path in self.dataset.all_embeddings if _is_of_sequences(path)],
            {run.path.name: _command(self.workspace, run.path.name) for run in self.runs},
            [dataset.name for dataset in named if _has_user(dataset, self.users)],
            files_with(self.workspace, self.dataset, self.users),
        )


def _measured_anew(table: pa.Table) -> pa.Table:
    """Return the sequences of a temporal split with the targets that are still measured: items that lost
    their training interactions are no targets any more.
    """
    lengths = pc.list_value_length(table["items"]).to_numpy().astype(np.int64)
    items = pc.list_flatten(table["items"]).to_numpy()
    starts = np.concatenate([[0], np.cumsum(lengths)])
    begins = [table[f"{period}_begin"].to_numpy().astype(np.int64) for period in temporal.PERIODS]
    place = np.arange(len(items)) - np.repeat(starts[:-1], lengths)  # of each item in its sequence
    is_trained = np.zeros(items.max(initial=-1) + 1, bool)
    is_trained[items[place < np.repeat(begins[0], lengths)]] = True
    for name, column in temporal.columns(begins, items, starts, is_trained).items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _counts(column: pa.ChunkedArray) -> list[tuple[Any, int]]:
    """Return distinct values and their numbers."""
    return [(entry["values"], entry["counts"]) for entry in pc.value_counts(column).to_pylist()]


def _is_of_sequences(path: Path) -> bool:
    provenance = artifacts.provenance(path)
    return provenance is not None and "sequences" in provenance["inputs"]


def _has_user(dataset: Dataset, users: Sequence[str]) -> bool:
    """Return True if a data set has a user of these ids; False also for one that cannot be read."""
    try:
        table = artifacts.read(dataset.sequences, "sequences", columns=["user_id"])
    except UserError:
        return False
    ids = table["user_id"].cast(pa.string())
    return bool(pc.any(pc.is_in(ids, pa.array(users, pa.string()))).as_py())


def _command(workspace: Workspace, name: str) -> str:
    """Return the command that trains a run again, or makes a committee again."""
    run = workspace.run(name)
    if members := members_of(read_object(run.config)):
        names = " ".join(f"{member.get('run')}" for member in members)
        return f"maskgr ensemble {name} {names} --force, after its members"
    if run.settings.exists():
        return f"maskgr train --config {shlex.quote(str(run.settings))} --force"
    return f"maskgr train --name {name} --force, with the options of the run"
