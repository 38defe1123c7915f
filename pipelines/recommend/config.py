"""Options of recommendations. Light to import: the command line makes options of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import UserError, reading
from pipelines.options import SHARE, check, option

SIMILARITIES = ("model", "text", "sids")
MOST = 10_000  # largest number of recommendations of a history


@dataclass(frozen=True)
class RecommendConfig:
    """Number of recommendations, and the items that qualify.

    Attributes:
        k: number of recommendations.
        where: condition on the columns of items.parquet.
        allow: identifiers of the only items that qualify, as `identifiers` reads them.
        deny: identifiers of items that do not qualify.
        diversity: weight λ of maximal marginal relevance.

    Raises:
        UserError: a value is out of its bounds.
    """

    k: int = field(
        default=10, metadata=option("Number of recommendations. [default: 10]", 1, MOST, flag="-k")
    )
    where: str | None = field(
        default=None,
        metadata=option(
            "Recommend only items whose columns satisfy this condition, e.g. "
            "\"category = 'Kitchen' and price < 30\"."
        ),
    )
    allow: str | None = field(
        default=None,
        metadata=option("Recommend only these items: ids with commas between, or @FILE with one a line."),
    )
    deny: str | None = field(
        default=None,
        metadata=option("Recommend none of these items: ids with commas between, or @FILE with one a line."),
    )
    diversity: float = field(
        default=0.0,
        metadata=option(
            "Weight of unlikeness to the items above, by maximal marginal relevance; 0: the order of the "
            "scores. [default: 0]",
            *SHARE,
        ),
    )

    def __post_init__(self) -> None:
        check(self)


def identifiers(flag: str, text: str) -> list[str]:
    """Return the identifiers that an option lists, with commas between, or one per line in @FILE.

    Raises:
        UserError: the file cannot be read, or the list is empty.
    """
    if text.startswith("@"):
        path = Path(text[1:])
        with reading(path, "list of item ids", f"Give {flag} a text file with one id per line."):
            names = path.read_text(encoding="utf-8-sig").splitlines()
    else:
        names = text.split(",")
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise UserError(f"{flag} {text} lists no ids.")
    return names
