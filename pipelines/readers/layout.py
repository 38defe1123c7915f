"""Layout of separated values, told from the first lines of a text."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.readers.content import Content

SEPARATORS = ("\t", ",", ";", "|", "::")  # best first
BLANK = " "  # separator where no other fits: any number of blanks
REGULAR = 0.9  # share of lines that have the same number of fields if the separator is the right one
USUAL = 0.5  # the same share where no separator is regular
DATA = re.compile(r"[+-]?[\d.,:/ TZ+-]*\d[\d.,:/ TZ+-]*(e[+-]?\d+| UTC)?|\[.*\]", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """Layout of separated values.

    Attributes:
        separator: text between two fields; `BLANK` for any number of blanks.
        fields: number of fields of most lines.
        header: True if the first line has the names of the columns.
        share: share of the lines that have `fields` fields.
    """

    separator: str
    fields: int
    header: bool
    share: float

    @property
    def may_quote(self) -> bool:
        """True if the separator allows quotes around fields."""
        return len(self.separator) == 1 and self.separator != BLANK


def layout(content: Content) -> Layout:
    """Return the layout of a text; one column if no separator fits most of its first lines."""
    lines = content.sample
    found = [_measured(lines, separator) for separator in SEPARATORS]
    regular = [candidate for candidate in found if candidate.fields > 1 and candidate.share >= REGULAR]
    if regular:
        return max(regular, key=lambda candidate: candidate.fields)
    blanks = _measured(lines, BLANK)
    if blanks.fields > 1 and blanks.share >= REGULAR:
        return blanks
    usual = [candidate for candidate in found if candidate.fields > 1 and candidate.share >= USUAL]
    column = Layout(",", 1, _is_header([[line] for line in lines]), 1.0)
    return max(usual, key=lambda candidate: candidate.share, default=column)


def split(lines: list[str], separator: str) -> Iterator[list[str]]:
    """Yield the fields of each row."""
    if separator == BLANK:
        yield from (line.split() for line in lines)
    elif len(separator) > 1 or not any('"' in line for line in lines):
        yield from (line.split(separator) for line in lines)
    else:
        try:
            yield from csv.reader((f"{line}\n" for line in lines), delimiter=separator)
        except csv.Error:  # a field is too long
            return


def is_value(text: str) -> bool:
    """Return True for a number, a time or a list, which no header names a column after."""
    return bool(DATA.fullmatch(text.strip()))


def _measured(lines: list[str], separator: str) -> Layout:
    """Return the layout that lines have with a separator."""
    rows = list(split(lines, separator))
    if not rows:
        return Layout(separator, 0, False, 0.0)
    fields, count = Counter(map(len, rows)).most_common(1)[0]
    return Layout(separator, fields, _is_header(rows), count / len(rows))


def _is_header(rows: list[list[str]]) -> bool:
    """Return True if the first row has names.

    None is a number, a time or a list, only the first and the last may be empty, and none stands in its
    column again.
    """
    first, *others = rows or [[]]
    if any(map(is_value, first)) or not all(name.strip() for name in first[1:-1]):
        return False
    columns = [{row[i] for row in others if i < len(row)} for i in range(len(first))]
    return not any(name and name in column for name, column in zip(first, columns, strict=True))
