"""Tables of interactions and items, read from the user's own files, with an account of the reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipelines.import_.combined import read_all
from pipelines.import_.config import ImportConfig
from pipelines.import_.interactions import read_interactions
from pipelines.import_.items import read_items
from pipelines.import_.matching import agreement
from pipelines.import_.roles import find_items, find_roles, refuse_headless
from pipelines.prepare.account import Account
from pipelines.prepare.tables import Tables
from pipelines.progress import Progress
from pipelines.readers.names import is_known_identifier, plain
from pipelines.readers.rows import Reading


def read_tables(
    interactions: Sequence[Path], items: Sequence[Path], config: ImportConfig, progress: Progress
) -> tuple[Tables, Account]:
    """Read interactions and items.

    Args:
        interactions: files of interactions.
        items: files of items; empty if items have no text.

    Returns:
        the tables, and the account of the reading.

    Raises:
        UserError: a file or a column cannot be used, or too many rows cannot be.
    """
    account = Account()
    log = read_all(interactions, "--interactions", _reading(config, config.column_names), account, progress)
    refuse_headless(log)
    catalogue = read_all(items, "--items", _reading(config), account, progress) if items else None
    item, item_row, note = find_items(log, catalogue, config)
    rows, text_columns = pl.DataFrame(schema={"item_id": pl.String()}), list[str]()
    if catalogue is not None and item_row is not None:
        rows, text_columns = read_items(catalogue, item_row, config, account)
    roles = find_roles(log, item, config)
    listed = rows["item_id"] if catalogue is not None else None
    table = read_interactions(log, roles, note, listed, catalogue, config, account, progress)
    if catalogue is None:
        account.notes.append(
            "No items file: items have no text, so they need embeddings of your own or a model without "
            "semantic IDs."
        )
    else:
        taken = table["item_id"].unique(maintain_order=True).cast(pl.String)
        account.notes += agreement(taken, rows["item_id"], log.name, catalogue.name)
    return Tables(table, rows, text_columns), account


def _reading(config: ImportConfig, columns: tuple[str, ...] = ()) -> Reading:
    """Return how files are read: columns that may be identifiers stay text as it is written."""
    configured = {plain(name) for name in (config.user_column, config.item_column) if name}

    def is_identifier(name: str) -> bool:
        return is_known_identifier(name) or plain(name) in configured

    return Reading(is_identifier, columns, config.encoding)
