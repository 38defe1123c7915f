"""MovieLens archives: titles and years apart, genres as lists, and rows of another form named."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.download import movielens
from pipelines.download.movielens import read_1m, read_100k, read_recbole
from pipelines.errors import UserError

RECBOLE = "recbole/dataset_example/ml-100k/ml-100k"


def archive(path: Path, members: dict[str, str], encoding: str = "latin-1") -> list[Path]:
    with zipfile.ZipFile(path, "w") as made:
        for name, text in members.items():
            made.writestr(name, text.encode(encoding))
    return [path]


@pytest.mark.parametrize(
    ("title", "name", "year"),
    [
        ("Heat (1995)", "Heat", "1995"),
        ("Shanghai Triad (Yao) (1995) ", "Shanghai Triad (Yao)", "1995"),
        ("unknown", "unknown", None),
        ("1984", "1984", None),
        ("Misérables, Les (1995)", "Misérables, Les", "1995"),
    ],
)
def test_title_and_year(tmp_path: Path, title: str, name: str, year: str | None) -> None:
    made = archive(
        tmp_path / "z.zip",
        {"ml-1m/ratings.dat": "1::7::5::978300760\n", "ml-1m/movies.dat": f"7::{title}::Drama|War\n"},
    )
    ratings, movies, _ = read_1m(made)
    assert ratings.rows() == [("1", "7", 5.0, 978300760)]
    assert movies.rows() == [("7", name, year, ["Drama", "War"])]


def test_both_editions_of_100k_say_the_same(tmp_path: Path) -> None:
    flags = ["0"] * 19
    flags[5] = flags[8] = "1"  # Comedy, Drama: u.genre numbers 5 and 8
    official = archive(
        tmp_path / "a.zip",
        {
            "ml-100k/u.data": "196\t242\t3\t881250949\n",
            "ml-100k/u.item": f"242|Kolya (1996)|24-Jan-1997||http://x|{'|'.join(flags)}\n",
        },
    )
    copied = archive(
        tmp_path / "b.whl",
        {
            f"{RECBOLE}.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            "196\t242\t3\t881250949\n",
            f"{RECBOLE}.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            "242\tKolya\t1996\tComedy Drama\n",
        },
        "utf-8",
    )
    for one, other in zip(read_100k(official)[:2], read_recbole(copied)[:2], strict=True):
        assert one.rows() == other.rows()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1::7::5", "line 2 is not 4 fields"),
        ("1::7::5::9::9", "line 2 is not 4 fields"),
        ("1::7::5::", "line 2 is not user, item, rating, time"),
        ("1::7::five::9", "line 2 is not user, item, rating, time"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, row: str, message: str) -> None:
    made = archive(
        tmp_path / "z.zip",
        {"ml-1m/ratings.dat": f"1::7::5::9\n{row}\n", "ml-1m/movies.dat": "7::Heat (1995)::Drama\n"},
    )
    with pytest.raises(UserError, match=rf"ml-1m/ratings.dat, {message}"):
        read_1m(made)


def test_an_empty_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ml-1m/ratings.dat, line 1 is not 4 fields"):
        read_1m(archive(tmp_path / "z.zip", {"ml-1m/ratings.dat": "", "ml-1m/movies.dat": ""}))


def _spoilt(data: bytes) -> bytes:
    start = data.index(b"ratings.dat") + 30
    return data[:start] + b"\xff" * 20 + data[start + 20 :]


def _encrypted(data: bytes) -> bytes:
    """As if every member were encrypted: bit 0 of its flags, in the member's header and in the directory."""
    changed = bytearray(data)
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = changed.find(mark)
        while start >= 0:
            changed[start + flags] |= 1
            start = changed.find(mark, start + 1)
    return bytes(changed)


@pytest.mark.parametrize(
    "packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]
)
@pytest.mark.parametrize("spoil", [_spoilt, _encrypted])
def test_a_spoilt_member_is_one_line(tmp_path: Path, packing: int, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w", packing) as made:
        made.writestr("ml-1m/ratings.dat", "".join(f"{i}::7::5::{i * i}\n" for i in range(300)))
        made.writestr("ml-1m/movies.dat", "7::Heat (1995)::Drama\n")
    assert len(read_1m([path])[0]) == 300
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match="z.zip is not a readable zip archive"):
        read_1m([path])


def test_a_member_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = archive(
        tmp_path / "z.zip",
        {"ml-1m/ratings.dat": "1::7::5::9\n" * 10, "ml-1m/movies.dat": "7::Heat (1995)::Drama\n"},
    )
    monkeypatch.setattr(movielens, "LARGEST", 100)
    with pytest.raises(UserError, match="ml-1m/ratings.dat claims to hold more than 100 bytes"):
        read_1m(made)
