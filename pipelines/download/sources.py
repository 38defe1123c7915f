"""The public data sets: which files they consist of and where each can be had, as data.

The addresses were written down from public documentation and could not be tried where this was written (only
package indexes were reachable there): loading from the live sites is untested. What is tested is the same code
against a local server and the package index. A site that has moved is skipped; `--mirror` and `--from` go past it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import UserError


@dataclass(frozen=True)
class File:
    """One file: its name on disk, the addresses to ask in order, or the requirement whose wheel it is."""

    name: str
    urls: tuple[str, ...] = ()
    requirement: str | None = None


@dataclass(frozen=True)
class Edition:
    """One form in which a data set is published: its files by role, and the format that reads them (see build.py)."""

    format: str
    files: dict[str, File]


def _amazon(category: str) -> tuple[Edition, ...]:
    """Amazon 2014, 5-core reviews and metadata of one category (He and McAuley 2016; McAuley et al. 2015)."""
    folders = (
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        "https://jmcauley.ucsd.edu/data/amazon/productGraph/categoryFiles",
        "https://datarepo.eng.ucsd.edu/mcauley_group/data/amazon/productGraph/categoryFiles",
    )
    names = {"reviews": f"reviews_{category}_5.json.gz", "metadata": f"meta_{category}.json.gz"}
    return (Edition("amazon", {role: File(name, tuple(f"{folder}/{name}" for folder in folders)) for role, name in names.items()}),)


def _movielens(name: str) -> Edition:
    """MovieLens as GroupLens publishes it (Harper and Konstan 2015)."""
    return Edition(name, {"archive": File(f"{name}.zip", (f"https://files.grouplens.org/datasets/movielens/{name}.zip",))})


# The editions of each data set, best first. The last one of ml-100k needs no more than a package index.
DATASETS: dict[str, tuple[Edition, ...]] = {
    "beauty": _amazon("Beauty"),
    "sports": _amazon("Sports_and_Outdoors"),
    "toys": _amazon("Toys_and_Games"),
    "ml-1m": (_movielens("ml-1m"),),
    "ml-100k": (
        _movielens("ml-100k"),
        Edition("recbole", {"archive": File("recbole-1.2.1-py3-none-any.whl", requirement="recbole==1.2.1")}),
    ),
}


def editions(name: str) -> tuple[Edition, ...]:
    """The editions of a data set, best first.

    Raises:
        UserError: there is no public data set of that name.
    """
    if name not in DATASETS:
        raise UserError(
            f"{name!r} is no data set that can be downloaded; choose {', '.join(DATASETS)}, or use `maskgr import {name} …` for files of your own."
        )
    return DATASETS[name]
