"""Times in the forms that people have them, as numbers that sort."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.combined import ROW, Combined
from pipelines.temporal import SCALES, shown

UNITS = {"ms": 1e3, "us": 1e6, "ns": 1e9}  # time unit → units per second
DAY = 86_400.0  # seconds
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CLOCK = (
    r"(?:[T ,]+(?<H>\d{1,2}):(?<M>\d{2})(?::(?<S>\d{2})(?:[.,](?<f>\d{1,9}))?)?)? ?(?<p>[AaPp][Mm])? ?"
    r"(?<o>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?$"
)
YEAR_FIRST = r"^(?<y>\d{4})[-/.](?<m>\d{1,2})[-/.](?<d>\d{1,2})" + CLOCK
YEAR_LAST = r"^(?<a>\d{1,2})[-/.](?<b>\d{1,2})[-/.](?<y>\d{4})" + CLOCK
MONTH_NAMED = (  # day before month, month before day
    r"^(?:[A-Za-z]{3,9},? )?(?<d>\d{1,2})[ -](?<n>[A-Za-z]{3})[a-z]*\.?,?[ -](?<y>\d{4})" + CLOCK,
    r"^(?:[A-Za-z]{3,9},? )?(?<n>[A-Za-z]{3})[a-z]*\.? (?<d>\d{1,2}),? (?<y>\d{4})" + CLOCK,
)
OF_DAY = re.compile(r"%[HITRXcs+]")  # parts of a form that hold the time of day
OFFSET = re.compile(r"%(#|:)?z|%\+")


@dataclass(frozen=True)
class Times:
    """Times of rows.

    Attributes:
        values: numbers that sort as the times do, null where there is no valid time.
        form: form of the times, for messages.
        span: first and last time, for messages.
    """

    values: pl.Series
    form: str
    span: str


def times(log: Combined, name: str, is_position: bool, form: str | None) -> Times:
    """Return a column of times as numbers, see `Clock`.

    Args:
        log, name, is_position, form: see `Clock`.

    Raises:
        UserError: see `Clock`.
    """
    clock = Clock(log, name, is_position, form, lambda: iter([log.table]))
    values = clock.read(log.table)
    return Times(values, *clock.finish())


Convert = Callable[[pl.Series], pl.Series]  # times as they are written → numbers, null where one is no time
Place = tuple[int, object]  # value of `ROW`, and what the row holds


class Clock:
    """Times that come in parts, as numbers: numbers as they are, dates and instants as seconds since 1970."""

    def __init__(
        self,
        log: Combined,
        name: str,
        is_position: bool,
        form: str | None,
        pieces: Callable[[], Iterator[pl.DataFrame]],
    ) -> None:
        """
        Args:
            log: the interactions.
            name: column of times.
            is_position: True if numbers are positions.
            form: form of texts as `strptime` has it; None finds it.
            pieces: function that returns all parts, from which the form of texts is found.
        """
        self._log, self._name, self._is_position, self._given = log, name, is_position, form
        self._pieces = pieces
        self._convert: Convert | None = None
        self._form = ""  # of texts, dates and instants
        self._counts = [0, 0]  # rows that have a value, and those of them whose value is no time
        self._wrong: Place | None = None  # first row whose value is no time
        self._units: dict[str, tuple[float, Place]] = {}  # name → units per second, first row
        self._range: tuple[Any, Any] = (None, None)

    def read(self, piece: pl.DataFrame) -> pl.Series:
        """Return the times of a part, null where there is no valid time.

        Raises:
            UserError: the column holds no times, or days and months that cannot be told apart.
        """
        column, rows = piece[self._name], piece[ROW]
        if self._convert is None:
            self._convert, self._form = self._found(column.dtype)
        values = self._convert(column)
        finite = values.cast(pl.Float64).is_finite().fill_null(False)
        values = values.set(~finite, None)
        wrong = values.is_null() & column.is_not_null()
        self._counts[0] += len(column) - column.null_count()
        self._counts[1] += int(wrong.sum())
        if self._wrong is None and wrong.any():
            first = int(wrong.arg_true()[0])
            self._wrong = rows[first], column[first]
        if not self._form and not self._is_position:
            self._note_units(values.cast(pl.Float64).abs(), column, rows)
        ends = [end for end in (*self._range, values.min(), values.max()) if end is not None]
        self._range = (min(ends), max(ends)) if ends else (None, None)
        return values

    def finish(self) -> tuple[str, str]:
        """Return form and span of all times, in words.

        Raises:
            UserError: most values are no times, or the times have two units.
        """
        if self._wrong is not None and self._counts[1] * 2 > self._counts[0]:
            row, value = self._wrong
            raise UserError(
                f"{self._log.place(row)}: {value!r} in column {self._name} is not a "
                "time, like most of the others. Name another column with --time-column, or the form of the "
                'times with --time-format, e.g. "%d-%m-%Y %H:%M".'
            )
        if self._form or self._is_position:
            return self._form or "positions", _span(*self._range, 1.0 if self._form else 0.0)
        ordered = [(words, *self._units[words]) for _, _, words in SCALES if words in self._units]
        if len(ordered) > 1:
            (one, _, (a, first)), (other, _, (b, second)) = ordered[:2]
            raise UserError(
                f"Column {self._name} holds times of two units: {first} ({self._log.place(a)}) "
                f"are {one}, {second} ({self._log.place(b)}) {other}. Give all of them one unit."
            )
        for words, per_second, _ in ordered:
            return words, _span(*self._range, per_second)
        return "numbers", _span(*self._range, 0.0)

    def _found(self, kind: pl.DataType) -> tuple[Convert, str]:
        """Return the conversion of the column, and the form of its times in words; "" for numbers."""
        if self._given is not None:
            return partial(_of_form, self._log, form=self._given), f"of the form {self._given}"
        if kind == pl.String:
            return _of_text(self._log, self._name, self._pieces)
        if isinstance(kind, pl.Date):
            return lambda column: column.to_physical() * DAY, "dates"
        if isinstance(kind, pl.Datetime):  # as numbers: polars panics at instants beyond the calendar
            unit = UNITS[kind.time_unit]
            return lambda column: column.to_physical() / unit, "instants"
        if kind.is_numeric():
            return lambda column: column, ""
        raise UserError(
            f"{self._log.name}: column {self._name} holds {kind} values, which are not times. "
            "Name another with --time-column."
        )

    def _note_units(self, numbers: pl.Series, column: pl.Series, rows: pl.Series) -> None:
        """Keep the first row of each unit of times since 1970."""
        high = float("inf")
        for low, per_second, words in SCALES:
            if words not in self._units:
                found = numbers.is_between(low, high, closed="left").fill_null(False)
                if found.any():
                    first = int(found.arg_true()[0])
                    self._units[words] = (per_second, (rows[first], column[first]))
            high = low


def _span(first: object, last: object, per_second: float) -> str:
    """Return the first and the last time in words.

    Args:
        per_second: units of the values per second; 0 for numbers that are no times since 1970.
    """
    return f"{shown(first, per_second)} to {shown(last, per_second)}"


def _of_form(log: Combined, column: pl.Series, *, form: str) -> pl.Series:
    """Return texts of a given form as seconds since 1970, null where a text has another."""
    if not (column.dtype == pl.String or column.dtype.is_integer()):
        raise UserError(
            f"{log.name}: column {column.name} holds {column.dtype} values, whose form is known. Leave "
            "--time-format out."
        )
    text, whole = column.cast(pl.String), form
    if not OF_DAY.search(form):
        text, whole = text + " 00:00", f"{form} %H:%M"
    kind = pl.Datetime("us", "UTC") if OFFSET.search(form) else pl.Datetime("us")
    try:
        return text.str.strptime(kind, whole, strict=False).to_physical() / UNITS["us"]
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f'--time-format "{form}" is no form of times ({reason}).') from None


def _of_text(log: Combined, name: str, pieces: Callable[[], Iterator[pl.DataFrame]]) -> tuple[Convert, str]:
    """Return the conversion that fits most texts, and the form of the times in words.

    Raises:
        UserError: see `_first_part`.
    """
    candidates: list[tuple[Convert, str]] = [
        (lambda texts: texts.cast(pl.Int64, strict=False), ""),
        (lambda texts: texts.cast(pl.Float64, strict=False), ""),
        (partial(_instants, pattern=YEAR_FIRST), "dates, the year first"),
        *((partial(_instants, pattern=pattern), "dates, the month by name") for pattern in MONTH_NAMED),
    ]
    stripped = [(_stripped(convert), words) for convert, words in candidates]
    guess = next((c for c in stripped if _fits(c[0], next(pieces())[name])), None)
    if guess is not None and all(_fits(guess[0], piece[name]) for piece in pieces()):
        return guess  # no other one can fit more texts
    lost, rows, last = [0] * len(stripped), 0, 0
    for piece in pieces():
        texts = piece[name]
        lost = [
            count + convert(texts).null_count() for count, (convert, _) in zip(lost, stripped, strict=True)
        ]
        rows += len(texts)
        last += int(texts.str.strip_chars().str.contains(YEAR_LAST).fill_null(False).sum())
    if last <= rows - min(lost):
        return stripped[lost.index(min(lost))]
    first = _first_part(log, name, pieces)
    pattern = YEAR_LAST.replace("<a>", f"<{first[0]}>").replace("<b>", "<m>" if first == "day" else "<d>")
    return _stripped(partial(_instants, pattern=pattern)), f"dates, the {first} first"


def _stripped(convert: Convert) -> Convert:
    return lambda texts: convert(texts.str.strip_chars())


def _fits(convert: Convert, texts: pl.Series) -> bool:
    """Return True if every text is converted."""
    return convert(texts).null_count() == texts.null_count()


def _first_part(log: Combined, name: str, pieces: Callable[[], Iterator[pl.DataFrame]]) -> str:
    """Return "day" or "month": what comes first in dates like 28-06-2022, if any row decides it.

    Raises:
        UserError: no row decides it, or rows decide it differently.
    """
    decided: dict[str, Place] = {}  # first row in which the day, the month, or either comes first
    for piece in pieces():
        parts = piece[name].str.strip_chars().str.extract_groups(YEAR_LAST).struct.unnest()
        large = {part: (parts[part].cast(pl.Int64, strict=False) > 12).fill_null(False) for part in "ab"}
        masks = {"day": large["a"], "month": large["b"], "either": parts["a"].is_not_null()}
        for part, mask in masks.items():
            if part not in decided and mask.any():
                row = int(mask.arg_true()[0])
                decided[part] = (piece[ROW][row], piece[name][row])
    if "day" in decided and "month" in decided:
        (a, first), (b, second) = decided["day"], decided["month"]
        raise UserError(
            f"Column {name}: the day comes first in {first!r} ({log.place(a)}), the month in {second!r} "
            f"({log.place(b)}). Write the dates in one form."
        )
    for part in ("day", "month"):
        if part in decided:
            return part
    row, text = decided["either"]
    forms = [_described(str(text), first) for first in ("%d{0}%m", "%m{0}%d")]
    raise UserError(
        f"Column {name}: no row decides whether the day or the month comes first, as in {text!r} "
        f'({log.place(row)}). Say it: --time-format "{forms[0]}" for the day, "{forms[1]}" for the month.'
    )


def _described(text: str, first: str) -> str:
    """Return the form of a date, given that of its first two parts."""
    mark = next(character for character in text.strip() if not character.isdigit())
    clock = text.count(":")
    hours = "%I" if re.search("[AaPp][Mm]", text) else "%H"
    form = first.format(mark) + f"{mark}%Y" + ["", f" {hours}:%M", f" {hours}:%M:%S"][min(clock, 2)]
    return form + (" %p" if hours == "%I" else "")


def _instants(texts: pl.Series, pattern: str) -> pl.Series:
    """Return texts of a pattern as seconds since 1970, null where a text has another.

    Args:
        pattern: regular expression with the groups y, m or n (the name of the month), d and those of `CLOCK`.
    """
    parts = texts.str.extract_groups(pattern).struct.unnest()
    if "n" in parts.columns:
        numbers = {name: str(number) for number, name in enumerate(MONTHS, start=1)}
        month = pl.col("n").str.to_lowercase().replace_strict(numbers, default=None, return_dtype=pl.String)
        parts = parts.with_columns(m=month)
    hour = pl.col("H").cast(pl.Int64, strict=False)
    half = pl.col("p").str.to_lowercase()
    hour = (
        pl.when(half.is_null()).then(hour).otherwise(hour % 12 + pl.when(half == "pm").then(12).otherwise(0))
    )
    offset = pl.col("o").str.replace("Z|UTC|GMT", "+00:00").fill_null("+00:00")
    complete = pl.format(
        "{}-{}-{} {}:{}:{}{}{}",
        pl.col("y"),
        pl.col("m").str.zfill(2),
        pl.col("d").str.zfill(2),
        hour.cast(pl.String).str.zfill(2).fill_null("00"),
        pl.col("M").fill_null("00"),
        pl.col("S").fill_null("00"),
        pl.when(pl.col("f").is_null()).then(pl.lit("")).otherwise("." + pl.col("f")),
        offset,
    )
    instants = complete.str.strptime(pl.Datetime("us", "UTC"), "%Y-%m-%d %H:%M:%S%.f%#z", strict=False)
    return parts.select(instants.to_physical() / UNITS["us"]).to_series()
