"""Times in the forms that people have them, as numbers that sort."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import polars as pl

from pipelines.errors import UserError
from pipelines.import_.combined import ROW, Combined

UNITS = {"ms": 1e3, "us": 1e6, "ns": 1e9}  # time unit → units per second
SCALES = (  # smallest number of a unit of times since 1970, units per second, name
    (1e17, 1e9, "nanoseconds since 1970"),
    (1e14, 1e6, "microseconds since 1970"),
    (1e11, 1e3, "milliseconds since 1970"),
    (1e8, 1.0, "seconds since 1970"),
)
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
    """Return a column of times as numbers: numbers as they are, dates and instants as seconds since 1970.

    Args:
        log: the interactions.
        name: column of times.
        is_position: True if numbers are positions.
        form: form of texts as `strptime` has it; None finds it.

    Raises:
        UserError: the column holds no times, times of two units, or days and months that cannot be told
            apart.
    """
    column = log.table[name]
    if form is not None:
        values, found = _of_form(log, column, form), f"of the form {form}"
    elif column.dtype == pl.String:
        values, found = _of_text(log, column)
    elif isinstance(column.dtype, pl.Date):
        values, found = column.to_physical() * DAY, "dates"
    elif isinstance(column.dtype, pl.Datetime):  # as numbers: polars panics at instants beyond the calendar
        values, found = column.to_physical() / UNITS[column.dtype.time_unit], "instants"
    elif column.dtype.is_numeric():
        values, found = column, ""
    else:
        raise UserError(
            f"{log.name}: column {name} holds {column.dtype} values, which are not times. "
            "Name another with --time-column."
        )
    finite = values.cast(pl.Float64).is_finite().fill_null(False)
    values = values.set(~finite, None)
    _require_some(log, column, values)
    if found:
        return Times(values, found, _span(values, 1.0))
    if is_position:
        return Times(values, "positions", _span(values, 0.0))
    per_second, words = _unit(log, column, values)
    return Times(values, words, _span(values, per_second))


def _require_some(log: Combined, column: pl.Series, values: pl.Series) -> None:
    """Refuse a column of which most values are no times.

    Raises:
        UserError: it is one.
    """
    wrong = (values.is_null() & column.is_not_null()).arg_true()
    if len(wrong) * 2 > len(column) - column.null_count():
        raise UserError(
            f"{log.place(log.table[ROW][wrong[0]])}: {column[wrong[0]]!r} in column {column.name} is not a "
            "time, like most of the others. Name another column with --time-column, or the form of the times "
            'with --time-format, e.g. "%d-%m-%Y %H:%M".'
        )


def _unit(log: Combined, column: pl.Series, values: pl.Series) -> tuple[float, str]:
    """Return units per second and name of the unit of numbers.

    Raises:
        UserError: the numbers have two units.
    """
    numbers = values.cast(pl.Float64).abs()
    found: dict[str, tuple[float, int]] = {}
    high = float("inf")
    for low, per_second, words in SCALES:
        rows = numbers.is_between(low, high, closed="left").fill_null(False).arg_true()
        if len(rows):
            found[words] = (per_second, rows[0])
        high = low
    if len(found) > 1:
        (one, (_, a)), (other, (_, b)) = list(found.items())[:2]
        raise UserError(
            f"Column {column.name} holds times of two units: {column[a]} ({log.place(log.table[ROW][a])}) "
            f"are {one}, {column[b]} ({log.place(log.table[ROW][b])}) {other}. Give all of them one unit."
        )
    for words, (per_second, _) in found.items():
        return per_second, words
    return 0.0, "numbers"


def _span(values: pl.Series, per_second: float) -> str:
    """Return the first and the last time in words.

    Args:
        per_second: units of the values per second; 0 for numbers that are no times since 1970.
    """
    first, last = (_shown(values.min(), per_second), _shown(values.max(), per_second))
    return f"{first} to {last}"


def _shown(value: object, per_second: float) -> str:
    if not isinstance(value, (int, float)) or not per_second:
        return str(value)
    try:
        instant = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=value / per_second)
    except (OverflowError, ValueError):  # beyond the calendar
        return str(value)
    return f"{instant:%Y-%m-%d %H:%M:%S}"


def _of_form(log: Combined, column: pl.Series, form: str) -> pl.Series:
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


def _of_text(log: Combined, column: pl.Series) -> tuple[pl.Series, str]:
    """Return texts as numbers, null where a text is no time, and their form: that which fits most texts."""
    texts = column.str.strip_chars()
    candidates = [
        (texts.cast(pl.Int64, strict=False), ""),
        (texts.cast(pl.Float64, strict=False), ""),
        (_instants(texts, YEAR_FIRST), "dates, the year first"),
        *((_instants(texts, pattern), "dates, the month by name") for pattern in MONTH_NAMED),
    ]
    best = min(candidates, key=lambda candidate: candidate[0].null_count())
    last = texts.str.contains(YEAR_LAST).fill_null(False)
    if int(last.sum()) <= len(texts) - best[0].null_count():
        return best
    first = _first_part(log, column, texts)
    pattern = YEAR_LAST.replace("<a>", f"<{first[0]}>").replace("<b>", "<m>" if first == "day" else "<d>")
    return _instants(texts, pattern), f"dates, the {first} first"


def _first_part(log: Combined, column: pl.Series, texts: pl.Series) -> str:
    """Return "day" or "month": what comes first in dates like 28-06-2022, if any row decides it.

    Raises:
        UserError: no row decides it, or rows decide it differently.
    """
    parts = texts.str.extract_groups(YEAR_LAST).struct.unnest()
    rows = [(parts[part].cast(pl.Int64, strict=False) > 12).fill_null(False).arg_true() for part in "ab"]
    days, months = rows
    if len(days) and len(months):
        raise UserError(
            f"Column {column.name}: the day comes first in {column[days[0]]!r} "
            f"({log.place(log.table[ROW][days[0]])}), the month in {column[months[0]]!r} "
            f"({log.place(log.table[ROW][months[0]])}). Write the dates in one form."
        )
    if len(days) or len(months):
        return "day" if len(days) else "month"
    row = parts["a"].is_not_null().arg_true()[0]
    forms = [_described(column[row], first) for first in ("%d{0}%m", "%m{0}%d")]
    raise UserError(
        f"Column {column.name}: no row decides whether the day or the month comes first, as in "
        f"{column[row]!r} "
        f'({log.place(log.table[ROW][row])}). Say it: --time-format "{forms[0]}" for the day, "{forms[1]}" '
        "for "
        "the month."
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
