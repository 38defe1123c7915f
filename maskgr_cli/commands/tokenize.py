"""`maskgr tokenize`: make semantic IDs of the items, and report their quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maskgr_cli import console
from maskgr_cli.options import (
    DatasetOption,
    ForceOption,
    WorkspaceOption,
    check_name,
    checked,
    config_options,
)
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Workspace


def register(app: typer.Typer) -> None:
    app.command()(tokenize)


@config_options(TokenizeConfig)
def tokenize(
    settings: dict[str, Any],
    dataset: DatasetOption = None,
    embedding: Annotated[
        str | None, checked("--embedding", "Embeddings to quantize.", check_name, show_default="the newest")
    ] = None,
    name: Annotated[
        str | None, checked("--name", "Name of the SIDs.", check_name, show_default="EMBEDDING-MxV[-METHOD]")
    ] = None,
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Turn item embeddings into semantic IDs and print their quality report."""
    config = TokenizeConfig(**settings)
    from pipelines.tokenize.build import build_sids

    data = Workspace.find(workspace).require_dataset(dataset)
    path = build_sids(data, config, console.RichProgress(), embedding=embedding, name=name, force=force)
    show_quality(f"{path.stem} of {data.name}", data.quality(path.stem))


def show_quality(title: str, report: Path) -> None:
    """Print a quality report: a table with one row per digit, and two lines about whole SIDs."""
    from pipelines import artifacts

    rows = artifacts.read(report, "quality").to_pylist()
    values = {(row["level"], row["measure"]): row["value"] for row in rows}
    digits = range(max(row["level"] for row in rows) + 1)
    collisions, items = values[-1, "collisions"], values[-1, "items"]
    console.table(
        f"SIDs {title}: quality",
        ["digit", "codes used", "entropy (bits)", "of log2 V", "relative quantization error"],
        [
            (
                digit + 1,
                f"{values[digit, 'codes_used']:,.0f}",
                f"{values[digit, 'entropy']:.2f}",
                f"{values[digit, 'entropy_share']:.1%}",
                f"{values[digit, 'relative_error']:.1%}" if (digit, "relative_error") in values else None,
            )
            for digit in digits
        ],
    )
    console.result(
        f"{items:,.0f} items. Before the deduplication digit {collisions:,.0f} ({collisions / items:.1%}) "
        f"share their codes with another, at most {values[-1, 'largest_group']:,.0f} together.\n"
        f"Ten nearest neighbors with the item's first code: {values[-1, 'neighbour_agreement']:.1%} "
        f"(by chance {values[-1, 'chance_agreement']:.1%})."
    )
