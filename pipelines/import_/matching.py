"""Agreement of the item ids of interactions with those of the items file, and near misses."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipelines.errors import UserError

SHOWN = 3  # ids of each side in a message
ZEROS = r"^0+\d"  # an id with leading zeros
FOLDED = "--ids folded compares without case, blanks and leading zeros."
FEW = 0.5  # share of items found, below which a warning is due


def folded(ids: pl.Series) -> pl.Series:
    """Return ids without case, blanks around them and leading zeros."""
    return _without_zeros(ids.str.strip_chars().str.to_lowercase())


def unified(ids: pl.Series, items: pl.Series | None, name: str) -> pl.Series:
    """Return ids in one form each: that of the items file, or else the first in the interactions.

    Args:
        ids: item ids of the interactions.
        items: those of the items file, distinct; None without one.
        name: items file, for the message.

    Raises:
        UserError: two items of the items file have the same folded id.
    """
    keys = folded(ids)
    forms = pl.DataFrame({"key": keys, "id": ids})
    if items is not None:
        listed = pl.DataFrame({"key": folded(items), "id": items})
        repeated = listed.filter(pl.col("key").is_duplicated()).sort("key", maintain_order=True)
        if len(repeated):
            raise UserError(
                f"{name}: --ids folded makes {repeated['id'][0]!r} and {repeated['id'][1]!r} one item. Leave "
                "it out, or write the ids of both files in one form."
            )
        forms = pl.concat((listed, forms))
    first = forms.drop_nulls().unique("key", keep="first", maintain_order=True)
    return pl.DataFrame({"key": keys}).join(first, on="key", how="left", maintain_order="left")["id"]


def agreement(ids: pl.Series, items: pl.Series, log: str, name: str) -> list[str]:
    """Return what is to be said about the agreement of item ids; nothing if at least half are found.

    Args:
        ids: item ids of the interactions, distinct.
        items: item ids of the items file.
        log, name: both files, for messages.

    Raises:
        UserError: no item of the interactions is in the items file.
    """
    lost = ids.filter(~ids.is_in(items.implode()))
    found = len(ids) - len(lost)
    if found >= FEW * len(ids):
        return []
    left, right = (", ".join(map(repr, side.head(SHOWN).to_list())) for side in (lost, items))
    misses = near_misses(lost, items)
    if not found:
        raise UserError(f"No item of {log} is in {name}: {left} against {right}. {misses or ADVICE}")
    return [
        f"Warning: only {found:,} of {len(ids):,} items of {log} are in {name}: {left} are not; it has "
        f"{right}. {misses or ADVICE}"
    ]


ADVICE = "Name the columns of ids with --item-column, or leave --items out."


def near_misses(lost: pl.Series, items: pl.Series) -> str:
    """Return how many ids would be found in another form, and the option that takes this form."""
    ways: dict[str, Callable[[pl.Series], pl.Series]] = {
        "without case": lambda s: s.str.to_lowercase(),
        "without blanks around them": lambda s: s.str.strip_chars(),
        "without leading zeros": _without_zeros,
        "without case, blanks and leading zeros": folded,
        "without the letters before the number": lambda s: s.str.replace(r"^\D+0*(\d)", "${1}"),
    }
    counts = {way: int(form(lost).is_in(form(items).implode()).sum()) for way, form in ways.items()}
    best = max(counts, key=lambda way: counts[way])  # of equal ones the first
    if not counts[best]:
        zeros = [int(side.str.contains(ZEROS).sum()) > FEW * len(side) for side in (lost, items)]
        return "" if zeros[0] == zeros[1] else f"Most ids of one side begin with zeros: {FOLDED}"
    count = f"{counts[best]:,} of {len(lost):,} would be found {best}: "
    if "letters" in best:
        return count + "write the ids of both files in one form."
    return count + FOLDED


def _without_zeros(ids: pl.Series) -> pl.Series:
    return ids.str.replace(r"^(\s*)0+(\S)", "${1}${2}")
