"""Tree map of semantic IDs as a page in HTML that needs no script and no network.

Areas are numbers of items. The layout is the squarified tree map of Bruls, Huizing and van Wijk ("Squarified
Treemaps", 2000): rows of rectangles along the shorter side, each row filled while its rectangles become more
like squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.pages import page
from pipelines.views.codes import Code, Meaning

TEMPLATE = Path(__file__).parent / "templates" / "sids.html"
GOLDEN = 137.508  # degrees between the hues of neighbors, the golden angle
SMALLEST = 0.0005  # share of a map below which the parts of a code are not drawn
MOST_LISTED = 100  # codes that a list names
LONGEST = 140  # characters of a title
WIDE = 1.6  # width of a map in units of its height


@dataclass(frozen=True)
class Box:
    """Rectangle in percent of the one around it."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Cell:
    """A code in a map.

    Attributes:
        code: the code.
        box: its rectangle.
        hue: color in degrees.
        parts: rectangles of its parts, inside its own.
    """

    code: Code
    box: Box
    hue: float
    parts: list[Box]


@dataclass(frozen=True)
class Map:
    """Codes as a map and as a list.

    Attributes:
        cells: rectangles of all codes.
        listed: codes in the list.
        others: number of the codes that are not in the list.
    """

    cells: list[Cell]
    listed: list[Code]
    others: int


def tree_map_page(meaning: Meaning) -> str:
    """Return the page: the map of the first digit, and for each of its codes the map of the second digit."""
    codes = meaning.tree(3)
    maps = [(code, map_of(code.parts, hue_of(code.code))) for code in codes if code.parts]
    return page(
        TEMPLATE, meaning=meaning, digits=meaning.use(), whole=map_of(codes), maps=maps, shortened=shortened
    )


def map_of(codes: Sequence[Code], hue: float | None = None) -> Map:
    """Return the map of codes, those with most items first.

    Args:
        hue: color of all codes in degrees; None for a color each.
    """
    whole = sum(code.items for code in codes)
    cells = [
        Cell(
            code,
            box,
            hue_of(code.code) if hue is None else hue,
            [
                part
                for part in squarified([p.items for p in code.parts], WIDE * box.width / box.height)
                if part.width * part.height / 1e4 * code.items / whole >= SMALLEST
            ]
            if len(code.parts) > 1
            else [],
        )
        for code, box in zip(codes, squarified([code.items for code in codes], WIDE), strict=True)
    ]
    return Map(cells, [*codes[:MOST_LISTED]], len(codes[MOST_LISTED:]))


def hue_of(code: int) -> float:
    """Return the color of a code in degrees."""
    return round(code * GOLDEN % 360, 1)


def shortened(title: str) -> str:
    """Return a title with at most `LONGEST` characters."""
    return title if len(title) <= LONGEST else f"{title[: LONGEST - 1]}…"


def squarified(sizes: Sequence[int], wide: float = 1.0) -> list[Box]:
    """Divide a rectangle into rectangles with areas in proportion to sizes.

    Args:
        sizes: positive sizes, the largest first.
        wide: width of the rectangle in units of its height.

    Returns:
        A rectangle for each size, in percent of the width and height of the whole.
    """
    if not sizes:
        return []
    left, top, width, height = 0.0, 0.0, wide, 1.0
    unit = wide / sum(sizes)  # area of a size of 1
    boxes: list[Box] = []
    rest = [size * unit for size in sizes]
    while rest:
        side = min(width, height)
        row = 1
        while row < len(rest) and _worst(rest[: row + 1], side) <= _worst(rest[:row], side):
            row += 1
        thickness = sum(rest[:row]) / side
        place = 0.0
        for area in rest[:row]:
            length = area / thickness
            x, y, w, h = (
                (left, top + place, thickness, length)
                if width >= height
                else (left + place, top, length, thickness)
            )
            boxes.append(Box(100 * x / wide, 100 * y, 100 * w / wide, 100 * h))
            place += length
        if width >= height:
            left, width = left + thickness, width - thickness
        else:
            top, height = top + thickness, height - thickness
        rest = rest[row:]
    return boxes


def _worst(areas: Sequence[float], side: float) -> float:
    """Return the largest ratio of the sides of rectangles that form a row along a side, at least 1."""
    total = sum(areas)
    return max(side**2 * areas[0] / total**2, total**2 / (side**2 * areas[-1]))
