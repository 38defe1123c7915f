"""`maskgr show --sids`: what codes mean, and their tree map."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.views.codes import Code, Digit, Meaning
from pipelines.views.neighbors import neighbors
from pipelines.views.tree_map import map_of, squarified, tree_map_page
from pipelines.workspace import Dataset, Workspace
from tests.conftest import ListProgress

HOSTILE = "<script>alert(1)</script> \u202eback \x1b[2J"
TITLES = [
    *("green tea leaves", "green tea bags", "black tea", "tea strainer"),
    *("red shoes", "blue shoes", HOSTILE, "wool socks"),
]
SIDS = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 2, 0], [3, 1, 0], [3, 1, 1], [3, 1, 2], [2, 3, 0]]


@pytest.fixture
def shop(workspace: Workspace) -> Dataset:
    """Eight items with titles and two content digits of four codes."""
    dataset = workspace.dataset("shop")
    numbers = pa.array(range(len(TITLES)), pa.int32())
    ids = [f"i{number}" for number in range(len(TITLES))]
    items = pa.table({"item": numbers, "item_id": ids, "text": TITLES, "title": TITLES})
    artifacts.write(dataset.items, "items", items, config={})
    sequences = pa.table(
        {
            "user": pa.array([0], pa.int32()),
            "user_id": ["u"],
            "items": pa.array([[0, 1, 2]], pa.list_(pa.int32())),
        }
    )
    artifacts.write(dataset.sequences, "sequences", sequences, config={})
    sids = pa.table({"item": numbers, "sid": artifacts.fixed_size_list(np.array(SIDS, np.int16))})
    config = {"codebook": 4, "num_levels": 2}
    artifacts.write(dataset.sids("s"), "sids", sids, config=config, inputs={"items": dataset.items})
    workspace.use("shop")
    return dataset


def test_codes_have_items_words_and_titles(shop: Dataset) -> None:
    meaning = Meaning(shop)
    assert (meaning.name, meaning.items, meaning.digits, meaning.codes) == ("s", 8, 2, 4)
    tea, shoes, socks = meaning.of_digit(1)
    assert (tea.code, tea.items, shoes.code, shoes.items, socks.code, socks.items) == (0, 4, 3, 3, 2, 1)
    assert shoes.words[0] == "shoes"  # 2 of 3 titles, and no other title
    assert "tea" not in tea.words  # 4 of 8 titles: not more than twice as often as in all
    assert socks == Code(1, 2, 1, ["socks", "wool"], ["wool socks"])
    assert tea.examples == TITLES[:3]


def test_use_and_collisions_by_hand(shop: Dataset) -> None:
    meaning = Meaning(shop, "s")
    first, second = meaning.use()
    entropy = -(1 / 2 * np.log2(1 / 2) + 3 / 8 * np.log2(3 / 8) + 1 / 8 * np.log2(1 / 8))
    assert first == Digit(1, 3, pytest.approx(entropy), pytest.approx(entropy / 2))
    assert (second.digit, second.codes_used) == (2, 4)
    assert meaning.collisions == 5  # items 0 and 1; 4, 5 and 6
    assert meaning.group_sizes.max() == 3


def test_the_tree_divides_the_items(shop: Dataset) -> None:
    tree = Meaning(shop).tree(3)  # there are two digits
    assert [[(part.code, part.items) for part in code.parts] for code in tree] == [
        [(0, 2), (1, 1), (2, 1)],
        [(1, 3)],
        [(3, 1)],
    ]
    assert tree[0].parts[0].words[:2] == ["green", "bags"]
    assert all(not part.parts for code in tree for part in code.parts)
    assert [code.items for code in Meaning(shop).of_item(4)] == [3, 4, 5]


def test_semantic_ids_that_do_not_exist_are_named(shop: Dataset, toy: Workspace) -> None:
    with pytest.raises(UserError, match=r"maskgr tokenize"):
        Meaning(shop, "other")
    with pytest.raises(UserError, match=r"toy has no semantic IDs. Make some with: maskgr tokenize"):
        Meaning(toy.dataset("toy"))


@pytest.mark.parametrize("sizes", [[1], [6, 6, 4, 3, 2, 2, 1], [1] * 50, [1000, 1], [*range(60, 0, -1)]])
def test_rectangles_tile_the_map(sizes: list[int]) -> None:
    """Areas are in proportion to sizes, and no two rectangles overlap, so that they fill the whole."""
    boxes = squarified(sizes, 1.6)
    for box, size in zip(boxes, sizes, strict=True):
        assert box.width * box.height / 1e4 == pytest.approx(size / sum(sizes))
        assert min(box.left, box.top) >= -1e-9
        assert max(box.left + box.width, box.top + box.height) <= 100 + 1e-9
    for number, a in enumerate(boxes):
        for b in boxes[:number]:
            apart = (
                *(a.left - b.left - b.width, b.left - a.left - a.width),
                *(a.top - b.top - b.height, b.top - a.top - a.height),
            )
            assert max(apart) > -1e-6


def test_the_rectangles_of_the_publication_s_example() -> None:
    """Sizes 6, 6, 4, 3, 2, 2, 1 in a rectangle of 6 × 4 (section 3.1 of the paper): the first two share a
    column of width 3.
    """
    boxes = squarified([6, 6, 4, 3, 2, 2, 1], 1.5)
    sides = [(round(box.width * 6 / 100, 3), round(box.height * 4 / 100, 3)) for box in boxes]
    assert sides[:4] == [(3, 2), (3, 2), (1.714, 2.333), (1.286, 2.333)]


class Links(HTMLParser):
    """Tags, ids, links and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if "href" in values else []
        self.sources += [values["src"] or ""] if "src" in values else []

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_shows_titles_as_text(shop: Dataset) -> None:
    page = tree_map_page(Meaning(shop))
    found = Links(page)
    assert not found.tags & {"script", "img", "link", "iframe", "object"} and not found.sources
    assert "url(" not in page and "http:" not in page and "https:" not in page
    assert sorted(found.ids) == ["all", "code-0", "code-2", "code-3"]
    assert {link.removeprefix("#") for link in found.links} == {*found.ids}  # each code can be reached by Tab
    assert r"<script>alert(1)</script> \u202eback \x1b[2J" in found.text
    assert not {"\u202e", "\x1b"} & {*page}
    assert "prefers-color-scheme: dark" in page
    assert "5 share all 2 digits" in " ".join(found.text.split())


def test_small_parts_are_not_drawn_and_long_lists_are_cut() -> None:
    many = [Code(2, number, 1, []) for number in range(3000)]
    whole = map_of([Code(1, 0, 3000, [], parts=many), Code(1, 1, 5, [], parts=many[:2])])
    assert [len(cell.parts) for cell in whole.cells] == [0, 2]
    assert (len(map_of(many).listed), map_of(many).others) == (100, 2900)


def test_similar_items_need_no_run(shop: Dataset, progress: ListProgress) -> None:
    """By text, the cosine; by semantic IDs, the number of equal digits; no run, none by a model."""
    vectors = np.eye(8, 4, dtype=np.float32)
    vectors[6] = [3, 0.3, 0, 0]
    table = pa.table(
        {"item": pa.array(range(8), pa.int32()), "embedding": artifacts.fixed_size_list(vectors)}
    )
    artifacts.write(shop.embeddings("e"), "embeddings", table, config={}, inputs={"items": shop.items})
    text, sids = neighbors(Workspace(shop.path.parent.parent), shop, np.array([0, 4]), 1, None, progress)
    assert (text.by, text.source, text.items[0].tolist()) == ("text", "e", [6])
    assert text.scores[0, 0] == pytest.approx(3 / np.hypot(3, 0.3))
    assert (sids.by, sids.source, sids.items.tolist(), sids.scores.tolist()) == (
        "sids",
        "s",
        [[1], [5]],
        [[2], [2]],
    )


def test_the_command_lists_codes_and_writes_the_page(
    shop: Dataset, typed: Callable[..., str], tmp_path: Path
) -> None:
    content = json.loads(typed("show", "--sids", "--format", "json"))
    assert content["whole"] == [
        {"items": 8, "collisions": 5, "largest_group": 3, "sids": "s", "dataset": "shop"}
    ]
    assert [row["codes_used"] for row in content["digits"]] == [3, 4]
    assert content["codes"][2] == {"digit": 1, "code": 2, "items": 1, "words": ["socks", "wool"]}
    assert sum(row["items"] for row in content["codes"]) == 2 * 8
    assert "socks, wool" in typed("show", "--sids", "s", "--dataset", "shop")
    typed("show", "s", "--sids", "--output", "map.html")
    assert "Semantic IDs s of shop" in (tmp_path / "map.html").read_text("utf-8")
    for arguments, message in (
        (["--sids", "none"], "maskgr tokenize"),
        (["--sids", "--output", "map.png"], "Name a file that ends in .html"),
        (["--dataset", "shop"], "--dataset shop has no effect on show without --sids"),
    ):
        with pytest.raises(UserError, match=message):
            typed("show", *arguments)
