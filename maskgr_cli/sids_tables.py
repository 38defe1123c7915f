"""Tables of what the codes of semantic IDs mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskgr_cli.tables import Column, Table, count, percent

if TYPE_CHECKING:
    from pipelines.views.codes import Code, Meaning

SHOWN = 10  # codes of a digit that a reader sees
DIGITS = (
    Column("digit", ("digit",)),
    Column("codes used", ("codes_used",), count),
    Column("entropy (bits)", ("entropy",), "{:.2f}".format),
    Column("share of the largest possible (%)", ("entropy_share",), percent),
)
WHOLE = (
    Column("items", ("items",), count),
    Column("collisions", ("collisions",), count),
    Column("largest group", ("largest_group",), count),
)
CODES = (
    Column("digit", ("digit",), once=True),
    Column("code", ("code",)),
    Column("items", ("items",), count),
    Column("typical words", ("words",), ", ".join, left=True),
)


def sids_tables(meaning: Meaning, short: bool) -> list[Table]:
    """Return the use of the digits, the collisions, and all codes with their items and words.

    Args:
        meaning: what the semantic IDs mean.
        short: if true, only the codes of a digit with most items are listed.
    """
    named = {"sids": meaning.name, "dataset": meaning.dataset}
    groups = meaning.group_sizes
    whole = {"items": meaning.items, "collisions": meaning.collisions, "largest_group": int(groups.max())}
    codes = [
        code_row(code)
        for digit in range(1, meaning.digits + 1)
        for code in meaning.of_digit(digit)[: SHOWN if short else None]
    ]
    more = f"the {SHOWN} codes of each digit with most items; all of them with --format csv" if short else ""
    title = f"Semantic IDs {meaning.name} of {meaning.dataset}"
    return [
        Table("digits", title, DIGITS, [{**vars(d), **named} for d in meaning.use()], hidden=[*named]),
        Table("whole", "Items with equal codes", WHOLE, [{**whole, **named}], hidden=[*named]),
        Table("codes", "Codes", CODES, codes, more),
    ]


def code_row(code: Code) -> dict[str, Any]:
    """Return a code as a row of raw values."""
    return {"digit": code.digit, "code": code.code, "items": code.items, "words": code.words}
