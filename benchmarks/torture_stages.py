"""The stages of `benchmarks.torture`: commands on a toy data set, and the commands that prepare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.import_ import combined

Command = Sequence[object]

MODEL = ["--preset", "smoke", "--sids", 2, "--codebook", 16]
TRAIN = ["train", *MODEL, "--steps", 12, "--validations", 3, "--name", "r", "--precision", "fp32"]
RESUME = ["train", "--resume", "--name", "r"]
GRID = [
    *("ablate", "--budget", "smoke", "--sids", 2, "--codebook", 16),
    *("--steps", 8, "--nfe", "1,2", "--beams", 5),
]


@dataclass(frozen=True)
class Stage:
    """A command, with what its trials need.

    Attributes:
        command: the command; relative paths are below the workspace.
        before: commands that prepare the workspace.
        resumed: command that resumes a stopped command; None for the same command.
        share: one in so many of the trials is run, where the command starts processes that take long to
            start.
        prepare: function that the process of the command calls first.
    """

    command: Command
    before: list[Command] = field(default_factory=list)
    resumed: Command | None = None
    share: int = 1
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class ReadyStage:
    """The workspace before a stage's command, and figures of the undisturbed command.

    Attributes:
        root: folder of the workspace.
        seconds: duration of the command.
        written: number of bytes that the command writes.
        digests: digests of all artifacts afterwards.
    """

    root: Path
    seconds: float
    written: int
    digests: dict[str, str]


def stages(files: Path) -> dict[str, Stage]:
    """Return all stages.

    Args:
        files: folder of the interactions and items.
    """
    one, two = _import_command(files, "one"), _import_command(files, "two")
    sids: list[Command] = [one, ["embed"], ["tokenize", "--sids", 2, "--codebook", 16]]
    run: list[Command] = [*sids, TRAIN, ["eval", "--beams", 5]]
    again = [*TRAIN, "--seed", 1, "--force"]
    lake = _sequences_command(files, "lake")
    listed: list[Command] = [lake, *sids[1:]]
    streamed = [*TRAIN, "--shuffle", "groups"]
    everyone = ["recommend", "--all-users", "--output", "recommended.parquet"]
    bundle = ["export", "--output", "bundle", "--force"]
    csv = ["data", "export", "toy", "--output", "exported"]
    return {
        "import": Stage(one),
        "import over another": Stage(two, run),
        "import --force": Stage([*one, "--force"], run),
        "embed": Stage(["embed"], [one]),
        "embed --force": Stage(["embed", "--force"], run),
        "tokenize": Stage(["tokenize", "--sids", 2, "--codebook", 16], sids[:2]),
        "tokenize --force": Stage(["tokenize", "--sids", 2, "--codebook", 16, "--force"], run),
        "train": Stage(TRAIN, sids, RESUME),
        "train --force": Stage(again, run, RESUME),
        "train --force twice": Stage(again, run),
        "eval": Stage(["eval", "--beams", 10], run),
        "eval --force": Stage(["eval", "--beams", 5, "--force"], run),
        "ablate": Stage(GRID, sids),
        "ablate --jobs 2": Stage([*GRID, "--jobs", 2], sids, share=10),
        "train --processes 2": Stage([*TRAIN, "--processes", 2], sids, [*RESUME, "--processes", 2], share=10),
        "import in pieces": Stage(one, prepare=_import_in_pieces),
        "import in pieces over another": Stage(two, run, prepare=_import_in_pieces),
        "import --sequences": Stage(lake),
        "import --sequences over another": Stage(_sequences_command(files, "pond"), listed),
        "train --shuffle groups": Stage(streamed, listed, RESUME),
        "train --resume": Stage([*streamed, "--resume"], listed),
        "eval of files": Stage(["eval", "--beams", 10], [*listed, streamed]),
        "recommend": Stage(everyone, run),
        "recommend over another": Stage(everyone, [*run, everyone]),
        "export": Stage(bundle, run),
        "export over another": Stage(bundle, [*run, bundle]),
        "data export": Stage(csv, run),
        "report": Stage(GRID, [*sids, GRID]),
        "tune": Stage(["tune", *MODEL, "--steps", 4, "--total-minutes", 0.02, "--name", "s"], sids),
    }


def _import_command(files: Path, log: str) -> list[object]:
    paths = ["--interactions", files / f"{log}.csv", "--items", files / "items.csv"]
    return ["import", "toy", "--min-count", 0, *paths]


def _sequences_command(files: Path, folder: str) -> list[object]:
    return ["import", "toy", "--sequences", files / folder, "--items", files / "items.csv"]


def _import_in_pieces() -> None:
    """Make `import` read files of any size in pieces, as it reads files of more than 64 MiB."""
    combined.LARGE, combined.PIECE = 1, 100


def write_files(folder: Path) -> None:
    """Write the toy data set: item i + 1 follows item i. The second log has fewer users.

    The folders `lake` and `pond` have the same users as sequences, in row groups of 16 users.
    """
    (folder / "items.csv").write_text(
        "item_id,text\n" + "".join(f"i{i},group {i // 10} number {i}\n" for i in range(60))
    )
    for name, log, users in (("lake", "one", 120), ("pond", "two", 90)):
        rows = (f"u{u},i{(7 * u + step) % 60},{step}\n" for u in range(users) for step in range(8))
        (folder / f"{log}.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))
        lists = [[f"i{(7 * user + step) % 60}" for step in range(8)] for user in range(users)]
        table = pa.table({"user_id": [f"u{user}" for user in range(users)], "item_ids": lists})
        (folder / name).mkdir()
        for part, start in enumerate(range(0, users, 48)):
            pq.write_table(table.slice(start, 48), folder / name / f"{part}.parquet", row_group_size=16)
