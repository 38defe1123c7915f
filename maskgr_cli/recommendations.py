"""Output of recommendations: tables on the terminal, or data as JSON, CSV or Parquet."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maskgr_cli import console
from pipelines.durable import atomic
from pipelines.errors import UserError

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("table", "json", "csv", "parquet")


def choose_format(name: str | None, output: Path | None) -> str:
    """Return the format of the output: the one named, else that of the file's suffix, else a table.

    Raises:
        UserError: the format is unknown, or does not fit where the output goes.
    """
    chosen = name or (output.suffix.removeprefix(".").lower() if output else "table")
    allowed = FORMATS[1:] if output else FORMATS
    if chosen not in allowed:
        advice = f"choose {', '.join(allowed)}"
        raise UserError(
            f"--format {name}: {advice}."
            if name
            else f"--output {output}: the suffix names no format. With --format, {advice}."
        )
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        raise UserError("--format parquet: a terminal cannot show Parquet. Give --output FILE.")
    return chosen


def write(frame: pl.DataFrame, kind: str, output: Path | None) -> None:
    """Write rows as JSON, CSV or Parquet to a file, or to standard output.

    Raises:
        UserError: the file cannot be written.
    """
    buffer = io.BytesIO()
    if kind == "json":
        frame.write_json(buffer)
        buffer.write(b"\n")
    elif kind == "csv":
        frame.write_csv(buffer)
    else:
        frame.write_parquet(buffer)
    if output is None and kind == "parquet":
        sys.stdout.buffer.write(buffer.getvalue())
        sys.stdout.flush()
        return
    if output is None:
        console.data(buffer.getvalue().decode("utf-8").rstrip("\n"))
        return
    with atomic(output) as temporary:
        temporary.write_bytes(buffer.getvalue())
    console.note(f"{len(frame):,} rows: {output}")


def show(title: str, frame: pl.DataFrame) -> None:
    """Print the recommendations to one history as a table."""
    popular = not frame.is_empty() and frame["source"][0] == "popularity"
    positions = ["position"] if "position" in frame.columns else []
    rows = [
        (
            row["rank"],
            *(row[name] for name in positions),
            row["title"],
            row["item_id"],
            f"{row['score']:,.0f}" if popular else f"{row['score']:.3f}",
        )
        for row in frame.iter_rows(named=True)
    ]
    columns = ["rank", *positions, "title", "item", "interactions" if popular else "score"]
    note = "The history has no known item: these are the most popular items that qualify."
    console.table(title, columns, rows, note if popular else "", left=("title", "item"))


def show_explanation(title: str, explanation: pl.DataFrame) -> None:
    """Print how the digits of a recommendation were revealed."""
    console.table(
        title,
        ["evaluation", "digit", "code", "probability", "words of the code", "shared with the history"],
        [
            (
                row["evaluation"],
                row["digit"],
                row["code"],
                f"{row['probability']:.1%}",
                ", ".join(row["words"]),
                ", ".join(row["shared"]),
            )
            for row in explanation.iter_rows(named=True)
        ],
        left=("words of the code", "shared with the history"),
    )
