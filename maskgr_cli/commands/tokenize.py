"""`maskgr tokenize`: make semantic IDs of the items, and report their quality."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from maskgr_cli import launch
from maskgr_cli.options import (
    DatasetOption,
    ForceOption,
    WorkspaceOption,
    check_name,
    checked,
    config_options,
)
from maskgr_cli.tables import Column, ShortFormatOption, Table, count, show
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Dataset

COUNTS = {"items", "collisions", "largest_group", "codes_used"}  # measures that are whole numbers


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
    format: ShortFormatOption = "table",
    force: ForceOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Turn item embeddings into semantic IDs and print their quality report."""
    config = TokenizeConfig(**settings)
    from pipelines.tokenize.build import build_sids

    data = launch.find_workspace(workspace).require_dataset(dataset)
    path = launch.by_first(
        lambda: build_sids(data, config, launch.progress(), embedding=embedding, name=name, force=force)
    )
    if launch.is_first():
        show(quality_tables(path.stem, data), format)


def quality_tables(sids: str, dataset: Dataset) -> list[Table]:
    """Return the quality report of semantic IDs: a row for each digit, and a row about all digits."""
    from pipelines import artifacts

    measured = artifacts.read(dataset.quality(sids), "quality").to_pylist()
    rows: dict[int, dict[str, Any]] = {}
    for row in sorted(measured, key=lambda row: row["level"]):
        values = rows.setdefault(row["level"], {"sids": sids, "dataset": dataset.name, "digit": row["level"]})
        value = row["value"]
        values[row["measure"]] = int(value) if row["measure"] in COUNTS else value
    whole, *digits = rows.values()  # the level of measures of whole semantic IDs is −1
    collisions, items = whole["collisions"], whole["items"]
    columns = [
        Column("digit", ("digit",), lambda digit: digit + 1),
        Column("codes used", ("codes_used",), count),
        Column("entropy (bits)", ("entropy",), "{:.2f}".format),
        Column("of log2 V", ("entropy_share",), "{:.1%}".format),
        Column("relative quantization error", ("relative_error",), _share),
    ]
    caption = (
        f"{items:,} items. Before the deduplication digit {collisions:,} ({collisions / items:.1%}) "
        f"share their codes with another, at most {whole['largest_group']:,} together."
    )
    if "neighbour_agreement" in whole:
        caption += (
            f"\nTen nearest neighbors with the item's first code: {whole['neighbour_agreement']:.1%} "
            f"(by chance {whole['chance_agreement']:.1%})."
        )
    title = f"SIDs {sids} of {dataset.name}: quality"
    return [
        Table("digits", title, columns, digits, caption, hidden=("sids", "dataset")),
        Table("whole", "", (), [whole], hidden=[key for key in whole if key != "digit"]),
    ]


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"
