"""Paths of the files of a data set and of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError
from pipelines.formats import RunConfig, UnsupportedFormat, finals_of, read_run_config
from pipelines.names import checked_name


@dataclass(frozen=True)
class Dataset:
    """Paths of the artifacts of one data set.

    Attributes:
        path: folder of the data set.
    """

    name: str
    path: Path

    @property
    def interactions(self) -> Path:
        return self.path / "interactions.parquet"

    @property
    def items(self) -> Path:
        return self.path / "items.parquet"

    @property
    def sequences(self) -> Path:
        return self.path / "sequences.parquet"

    @property
    def lists_files(self) -> bool:
        """True if `sequences` lists the files of another program in place of sequences."""
        from pipelines.artifacts import provenance  # loads pyarrow, which `maskgr --help` does not need

        recorded = provenance(self.sequences)
        return recorded is not None and recorded["stage"] == "sequence_files"

    def embeddings(self, name: str) -> Path:
        return self.path / "embeddings" / f"{checked_name(name)}.parquet"

    def encoder(self, embeddings: str) -> Path:
        """Return the path of the fitted encoder of embeddings; not every encoder is a file."""
        return self.path / "embeddings" / f"{checked_name(embeddings)}.encoder.parquet"

    def sids(self, name: str) -> Path:
        return self.path / "sids" / f"{checked_name(name)}.parquet"

    def codebooks(self, sids: str) -> Path:
        """Return the path of the codebooks of semantic IDs; not every method has codebooks."""
        return self.path / "sids" / f"{checked_name(sids)}.codebooks.parquet"

    def quality(self, sids: str) -> Path:
        """Return the path of the quality report of semantic IDs."""
        return self.path / "sids" / f"{checked_name(sids)}.quality.parquet"

    def targets(self, name: str) -> Path:
        """Return the path of the soft targets of teachers (`train --distill`)."""
        return self.path / "targets" / f"{checked_name(name)}.parquet"

    @property
    def all_targets(self) -> list[Path]:
        return sorted((self.path / "targets").glob("[!.]*.parquet"))

    def external(self, name: str) -> Path:
        """Return the folder of the evaluations of external lists, which need not exist."""
        return self.path / "external" / checked_name(name)

    @property
    def all_external(self) -> list[Path]:
        """Folders of all evaluations of external lists, sorted by name."""
        return sorted(path.parent for path in (self.path / "external").glob("[!.]*/[!.]*/metrics.parquet"))

    @property
    def all_embeddings(self) -> list[Path]:
        return _without((self.path / "embeddings").glob("[!.]*.parquet"), ".encoder")

    @property
    def all_sids(self) -> list[Path]:
        return _without((self.path / "sids").glob("[!.]*.parquet"), ".quality", ".codebooks")

    def require_embeddings(self, name: str | None = None) -> Path:
        """Return the path of the named embeddings, or of the newest ones if `name` is None.

        Raises:
            UserError: there are no embeddings of that name, or none at all.
        """
        paths = self.all_embeddings
        if name is None and paths:
            return max(paths, key=lambda path: path.stat().st_mtime_ns)
        if name is None or not self.embeddings(name).exists():
            missing = "No embeddings" if name is None else f"No embeddings {name!r}"
            names = ", ".join(path.stem for path in paths) or "none"
            raise UserError(
                f"{missing} in {self.path / 'embeddings'} (it holds {names}). Run `maskgr embed` first."
            )
        return self.embeddings(name)


@dataclass(frozen=True)
class Run:
    """Paths of the files of one training run.

    Attributes:
        path: folder of the run.
    """

    name: str
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    def read_config(self) -> RunConfig:
        """Read config.json.

        Raises:
            UnsupportedFormat: the file has another format than `FORMAT_VERSION`.
            UserError: the file is missing or damaged.
        """
        return read_run_config(self.config, self.name)

    @property
    def has_supported_format(self) -> bool:
        """False if config.json has another format than `FORMAT_VERSION`.

        A missing or damaged file counts as supported.
        """
        try:
            self.read_config()
        except UnsupportedFormat:
            return False
        except UserError:
            pass
        return True

    @property
    def is_final(self) -> bool:
        """True for a final run or a committee of final runs; a missing or damaged config.json counts as
        none.
        """
        try:
            return bool(finals_of(self.read_config()))
        except UserError:
            return False

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def settings(self) -> Path:
        """Path of the configuration file that repeats the run."""
        return self.path / "train.toml"

    @property
    def history(self) -> Path:
        return self.path / "history.parquet"

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def anew(self) -> Run:
        """Run in which this run is trained again.

        Its folder replaces the folder of this run when the training is finished.
        """
        return Run(self.name, self.path.with_name(f".{self.name}.anew"))

    def evaluation(self, decoding: str) -> Path:
        return self.path / "eval" / checked_name(decoding)

    @property
    def evaluations(self) -> list[Path]:
        return sorted(path.parent for path in (self.path / "eval").glob("[!.]*/metrics.parquet"))


def _without(paths: Iterable[Path], *endings: str) -> list[Path]:
    """Return the sorted paths of the artifacts whose names have none of the endings."""
    return sorted(path for path in paths if not path.stem.endswith(endings))
