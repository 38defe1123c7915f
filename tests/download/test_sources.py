"""Public data sets that have a description: small files in their true formats, from a local server.

The live sites are not asked.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines import artifacts
from pipelines.download import described, streams
from pipelines.download.build import download_dataset
from pipelines.download.config import DownloadConfig
from pipelines.download.sources import DATASETS, SOURCES
from pipelines.errors import UserError
from pipelines.prepare.tables import Tables
from pipelines.progress import Silent
from pipelines.workspace import Workspace
from tests.conftest import ROOT, ListProgress
from tests.download.conftest import ITEMS, USERS, Site

PAIRS = [(u, (u + place) % ITEMS, place) for u in range(USERS) for place in range(ITEMS)]  # user, item, place
DAY = 86_400
CHECK_INS = "loc-gowalla_totalCheckins.txt.gz"


def packed(lines: list[str]) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def as_json(rows: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(row) for row in rows]


def zipped(members: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return data.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def amazon_2018() -> dict[str, bytes]:
    reviews = [
        {
            "overall": 5.0,
            "verified": True,
            "reviewTime": "09 1, 2016",
            "reviewerID": f"A{u}",
            "asin": f"B{i}",
            "style": {"Color:": " Blue"},
            "reviewText": "fine",
            "unixReviewTime": 1472688000 + place * DAY,
        }
        for u, i, place in PAIRS
    ]
    products: list[dict[str, Any]] = [
        {
            "category": ["All Beauty", "Bath &amp; Body"],
            "description": ["It cleans.", ""],
            "title": f"Soap {i}",
            "also_buy": ["B1"],
            "brand": "Acme",
            "feature": ["Mild"],
            "rank": ["1 in Beauty"],
            "details": {"Weight:": "1 ounce"},
            "price": "$4.50",
            "asin": f"B{i}",
        }
        for i in range(ITEMS)
    ]
    products += [{**products[0], "title": "the same product again"}, {"asin": "B9", "title": "of nobody"}]
    products[3] |= {"description": "", "feature": "", "price": ""}  # text in place of lists
    return {
        "All_Beauty_5.json.gz": packed(as_json(reviews)),
        "meta_All_Beauty.json.gz": packed(as_json(products)),
    }


def products_2023() -> bytes:
    products = [
        {
            "main_category": "All Beauty",
            "title": f"Soap {i}",
            "average_rating": 4.8,
            "features": ["Mild"],
            "description": ["It cleans."],
            "price": [19.99, None, "from 12.99"][i % 3],
            "images": [{"thumb": "https://x", "variant": "MAIN"}],
            "videos": [],
            "store": "Acme",
            "categories": ["Beauty", "Bath"],
            "details": {"Brand": "Acme"},
            "parent_asin": f"B{i}",
            "bought_together": None,
        }
        for i in range(ITEMS)
    ]
    return packed(as_json(products))


def amazon_2023(history: bool = False) -> dict[str, bytes]:
    rows = [f"AE{u},B{i},5.0,{1677939345945 + place * 1000}" + ",B1 B2" * history for u, i, place in PAIRS]
    header = "user_id,parent_asin,rating,timestamp" + ",history" * history
    return {"All_Beauty.csv.gz": packed([header, *rows]), "meta_All_Beauty.jsonl.gz": products_2023()}


def amazon_2023_raw() -> dict[str, bytes]:
    reviews = [
        {
            "rating": 5.0,
            "title": "Such a lovely scent",
            "text": "fine",
            "images": [],
            "asin": f"variant of B{i}",
            "parent_asin": f"B{i}",
            "user_id": f"AE{u}",
            "timestamp": 1588687728923 + place,
            "verified_purchase": True,
        }
        for u, i, place in PAIRS
    ]
    return {"All_Beauty.jsonl.gz": packed(as_json(reviews)), "meta_All_Beauty.jsonl.gz": products_2023()}


def movielens(name: str) -> dict[str, bytes]:
    ratings = "".join(f"{u},{i},4.0,{1147880044 + place}\n" for u, i, place in PAIRS)
    movies = "".join(f'{i},"Amélie {i}, The (199{i})",Comedy|Film-Noir\n' for i in range(ITEMS))
    members = {
        f"{name}/README.txt": "about",
        f"{name}/ratings.csv": f"userId,movieId,rating,timestamp\n{ratings}",
        f"{name}/movies.csv": f"movieId,title,genres\n{movies}",
    }
    return {f"{name}.zip": zipped(members)}


def yelp_members() -> dict[str, bytes]:
    reviews = [
        {
            "review_id": f"r{u}{i}",
            "user_id": f"u{u}",
            "business_id": f"b{i}",
            "stars": 3.0,
            "useful": 0,
            "text": "If you decide to eat here, just be aware",
            "date": f"2018-07-0{place + 1} 22:09:11",
        }
        for u, i, place in PAIRS
    ]
    businesses = [
        {
            "business_id": f"b{i}",
            "name": f"Café {i}",
            "city": "Tucson",
            "state": "AZ",
            "stars": 3.5,
            "attributes": {"ByAppointmentOnly": "True"},
            "categories": "Doctors, Health" if i else None,
            "hours": None,
        }
        for i in range(ITEMS)
    ]
    return {
        "yelp_academic_dataset_business.json": "\n".join(as_json(businesses)).encode(),
        "yelp_academic_dataset_review.json": "\n".join(as_json(reviews)).encode(),
    }


def games() -> bytes:
    rows = [
        f"{{u'publisher': u'Valve', u'genres': [u'Action'], u'app_name': u'Game {i}', "
        + f"u'title': u'Game {i}', " * (i != 2)
        + "u'release_date': u'2018-01-04', u'tags': [u'Indie', u'Action'], u'specs': [u'Single-player'], "
        + f"u'price': {['4.99', repr('Free To Play')][i % 2]}, u'early_access': False, u'id': u'{i}', "
        + "u'developer': u'It\\'s us'}"
        for i in range(ITEMS)
    ]
    return packed([*rows, "{u'title': u'without an id'}"])


def steam() -> dict[str, bytes]:
    reviews = [
        f"{{u'username': u'Chaos {u}', u'hours': 0.1, u'products': 41, u'product_id': u'{i}', "
        f"u'page_order': 0, u'date': u'2017-12-1{place}', u'text': u'This would not be \\'good\\'', "
        "u'early_access': False, u'page': 1}"
        for u, i, place in PAIRS
    ]
    return {"steam_reviews.json.gz": packed(reviews), "steam_games.json.gz": games()}


def steam_australia() -> dict[str, bytes]:
    users = [
        {
            "user_id": f"7656{u}",
            "items_count": ITEMS,
            "items": [{"item_id": str((u + n) % ITEMS), "playtime_forever": 6} for n in range(ITEMS)],
        }
        for u in range(USERS)
    ]
    users.append({"user_id": "without games", "items_count": 0, "items": []})
    return {"australian_users_items.json.gz": packed(list(map(repr, users))), "steam_games.json.gz": games()}


def gowalla() -> dict[str, bytes]:
    rows = [
        f"{u}\t2010-10-1{place + 2}T23:55:27Z\t30.2359091167\t-97.7951395833\t{i}"
        for u, i, place in reversed(PAIRS)
    ]  # the newest first
    return {CHECK_INS: packed(rows)}


FILES: dict[str, list[Callable[[], dict[str, bytes]]]] = {  # name → files of each edition that is tried
    "amazon2018-All_Beauty": [amazon_2018],
    "amazon2023-All_Beauty": [amazon_2023, lambda: amazon_2023(history=True), amazon_2023_raw],
    "ml-20m": [lambda: movielens("ml-20m")],
    "ml-32m": [lambda: movielens("ml-32m")],
    "yelp": [lambda: {"yelp_dataset.tar": tarred(yelp_members())}, yelp_members],
    "steam": [
        steam,
        lambda: {"steam_new.json.gz": steam()["steam_reviews.json.gz"], "steam_games.json.gz": games()},
    ],
    "steam-australia": [steam_australia],
    "gowalla": [gowalla],
}
TEXTS = {  # name → texts of the items 1 and 2
    "amazon2018-All_Beauty": [
        f"Soap {i}. Acme. All Beauty, Bath & Body. Mild. It cleans.. $4.50" for i in (1, 2)
    ],
    "amazon2023-All_Beauty": [
        "Soap 1. Beauty, Bath. Mild. It cleans.",
        "Soap 2. Beauty, Bath. Mild. It cleans.. from 12.99",
    ],
    "ml-20m": [f"Amélie {i}, The. 199{i}. Comedy, Film-Noir" for i in (1, 2)],
    "ml-32m": [f"Amélie {i}, The. 199{i}. Comedy, Film-Noir" for i in (1, 2)],
    "yelp": [f"Café {i}. Doctors, Health. Tucson. AZ" for i in (1, 2)],
    "steam": [
        "Game 1. Action. Indie, Action. Single-player. It's us. Free To Play",
        "Game 2. Action. Indie, Action. Single-player. It's us. $4.99",
    ],
    "steam-australia": [
        "Game 1. Action. Indie, Action. Single-player. It's us. Free To Play",
        "Game 2. Action. Indie, Action. Single-player. It's us. $4.99",
    ],
    "gowalla": ["", ""],
}
EDITIONS = [(name, number) for name, editions in FILES.items() for number in range(len(editions))]


@pytest.fixture(params=EDITIONS, ids=lambda edition: f"{edition[0]}-{edition[1]}")
def edition(request: pytest.FixtureRequest) -> tuple[str, dict[str, bytes]]:
    """Name of a data set, and the files of one of its editions."""
    name, number = request.param
    return name, FILES[name][number]()


def read(name: str, files: dict[str, bytes], folder: Path) -> Tables:
    """Read the files of the edition of a data set that has files of these names."""
    for file, data in files.items():
        (folder / file).write_bytes(data)
    found = next(e for e in DATASETS[name].editions if {f.name for f in e.files} == {*files})
    return described.read(found, [folder / file.name for file in found.files], Silent())


def test_a_data_set_arrives_from_a_server(
    site: Site, workspace: Workspace, progress: ListProgress, edition: tuple[str, dict[str, bytes]]
) -> None:
    """Eight users with eight items each, in order of time; the texts are those of the items' fields."""
    name, site.files = edition
    dataset = download_dataset(workspace, name, DownloadConfig(mirror=site.address), progress)
    assert progress.messages[0].startswith(f"Terms of {name}: {DATASETS[name].terms} Cite ")
    items = artifacts.read(dataset.items, "items").to_pylist()
    sequences = artifacts.read(dataset.sequences, "sequences")
    users = {
        user[-1]: row
        for user, row in zip(*sequences.select(["user_id", "items"]).to_pydict().values(), strict=True)
    }
    assert len(users) == USERS and len(items) == ITEMS
    numbers = [[int(items[item]["item_id"][-1]) for item in users[str(u)]] for u in range(USERS)]
    assert numbers == [[(u + place) % ITEMS for place in range(ITEMS)] for u in range(USERS)]
    texts = {int(item["item_id"][-1]): item["text"] for item in items}
    assert [texts[1], texts[2]] == TEXTS[name]
    asked = {path for path, _ in site.asked}
    assert asked >= {*site.files}


def test_blocks_make_no_difference(
    tmp_path: Path, edition: tuple[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(*edition, tmp_path)
    monkeypatch.setattr(streams, "BLOCK", 300)
    parts = read(*edition, tmp_path)
    assert whole.interactions.equals(parts.interactions) and whole.items.equals(parts.items)
    assert len(whole.interactions) == USERS * ITEMS and len(whole.items) in (ITEMS, 0)


def test_times_are_numbers(tmp_path: Path) -> None:
    """Seconds since 1970 for dates; milliseconds stay milliseconds, whose order is the same."""
    found = {name: read(name, FILES[name][0](), tmp_path).interactions for name in FILES}
    first = {name: table["timestamp"].min() for name, table in found.items() if "timestamp" in table.columns}
    assert first == {
        "amazon2018-All_Beauty": 1472688000, "amazon2023-All_Beauty": 1677939345945, "ml-20m": 1147880044,
        "ml-32m": 1147880044, "yelp": 1530482951, "steam": 1512864000, "gowalla": 1286927727,
    }  # fmt: skip
    assert found["steam-australia"]["position"].to_list() == list(range(USERS * ITEMS))


def test_python_literals_are_read_as_json_is(tmp_path: Path) -> None:
    """Lines that are read at once, and the same lines parsed one by one."""
    files = amazon_2018()
    literals = {
        name: packed([repr(json.loads(line)) for line in gzip.decompress(data).decode().splitlines()])
        for name, data in files.items()
    }
    first, second = (
        read("amazon2018-All_Beauty", files, tmp_path),
        read("amazon2018-All_Beauty", literals, tmp_path),
    )
    assert first.interactions.equals(second.interactions) and first.items.equals(second.items)


def test_prices_are_numbers_too(tmp_path: Path) -> None:
    items = {
        name: read(name, FILES[name][0](), tmp_path).items for name in (*FILES,) if "gowalla" not in name
    }
    prices = {
        name: table["price_usd"].to_list()[:4] for name, table in items.items() if "price" in table.columns
    }
    assert prices == {
        "amazon2018-All_Beauty": [4.5, 4.5, 4.5, None],
        "amazon2023-All_Beauty": [19.99, None, None, 19.99],
        "steam": [4.99, None, 4.99, None],
        "steam-australia": [4.99, None, 4.99, None],
    }
    assert items["amazon2018-All_Beauty"]["features"].to_list()[2:4] == [["Mild"], []]


def test_what_must_be_fetched_by_hand_says_where_and_how(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        download_dataset(workspace, "yelp", DownloadConfig(), progress)
    message = str(raised.value)
    assert "accept its terms on https://business.yelp.com/data/resources/open-dataset/" in message
    assert "yelp_dataset.tar" in message and message.endswith("name the folder with --from.")
    assert "terms of Yelp" in progress.messages[0]
    (tmp_path / "yelp_dataset.tar").write_bytes(FILES["yelp"][0]()["yelp_dataset.tar"])
    download_dataset(workspace, "yelp", DownloadConfig(local=str(tmp_path)), progress)
    assert workspace.require_dataset().name == "yelp"


def changed(files: dict[str, bytes], file: str, old: str, new: str) -> dict[str, bytes]:
    """Return files with one text replaced once."""
    data = files[file]
    text = (gzip.decompress(data) if file.endswith(".gz") else data).decode().replace(old, new, 1)
    return files | {file: gzip.compress(text.encode(), mtime=0) if file.endswith(".gz") else text.encode()}


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        (
            "amazon2023-All_Beauty",
            changed(amazon_2023(), "All_Beauty.csv.gz", "parent_asin", "asin"),
            r"All_Beauty.csv.gz has no column parent_asin; its first line is 'user_id,asin,rating,timestamp'",
        ),
        (
            "amazon2023-All_Beauty",
            changed(amazon_2023(), "All_Beauty.csv.gz", "AE0,B1,5.0,1677939346945", "AE0,B1,5.0,soon"),
            r"csv.gz, line 3 holds 'soon' as timestamp; a row needs user_id, parent_asin, timestamp",
        ),
        (
            "amazon2023-All_Beauty",
            changed(amazon_2023(), "All_Beauty.csv.gz", "AE0,B1,", ",B1,"),
            r"All_Beauty.csv.gz, line 3 holds None as user_id",
        ),
        (
            "yelp",
            changed(yelp_members(), "yelp_academic_dataset_review.json", "2018-07-02 22:09:11", "yesterday"),
            r"review.json, line 2 holds 'yesterday' as date; a row needs user_id, business_id, date",
        ),
        (
            "steam",
            changed(steam(), "steam_reviews.json.gz", "u'product_id': u'1'", "u'product': u'1'"),
            r"steam_reviews.json.gz, line 2 has no product_id; a row needs username, product_id, date",
        ),
        (
            "steam",
            changed(steam(), "steam_reviews.json.gz", "u'2017-12-11'", "__import__('os')"),
            r"steam_reviews.json.gz, line 2 is neither a JSON object nor a Python literal",
        ),
        ("gowalla", {CHECK_INS: packed([])}, "totalCheckins.txt.gz is empty"),
        ("gowalla", {CHECK_INS: packed(["1\t2"])}, "totalCheckins.txt.gz, line 1 has 2 values, expected 5"),
        ("gowalla", {CHECK_INS: gowalla()[CHECK_INS][:-20]}, "not a readable gzip file"),
        ("ml-20m", {"ml-20m.zip": movielens("ml-32m")["ml-32m.zip"]}, "ml-20m.zip has no ml-20m/ratings.csv"),
        ("ml-20m", {"ml-20m.zip": movielens("ml-20m")["ml-20m.zip"][:-30]}, "not a readable zip archive"),
        ("yelp", {"yelp_dataset.tar": tarred({"other.json": b"{}"})}, "has no yelp_academic_dataset_review"),
        ("yelp", {"yelp_dataset.tar": b"no archive"}, "yelp_dataset.tar is not a readable tar archive"),
    ],
    ids=range(13),
)  # fmt: skip
def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, name: str, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        read(name, files, tmp_path)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)


def test_all_data_sets_are_listed_with_terms() -> None:
    done = CliRunner().invoke(app, ["download", "--list"], catch_exceptions=False)
    text = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 0
    for source in SOURCES:
        assert source.name in text and source.terms and source.citation and source.content
    assert "CATEGORY of amazon2018-CATEGORY: AMAZON_FASHION, All_Beauty" in text
    assert len(DATASETS) == 3 + 29 + 34 + 4 + 4


def test_the_documents_name_every_data_set() -> None:
    for document in ("docs/data.md", "data/README.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        assert not [source.name for source in SOURCES if f"`{source.name}`" not in text], document


def test_files_of_a_data_set_have_distinct_names() -> None:
    for name, source in DATASETS.items():
        for edition in source.editions:
            assert len({file.name for file in edition.files}) == len(edition.files), name
            assert not any(
                "CATEGORY" in word for file in edition.files for word in (file.name, *file.addresses)
            )
            assert (
                edition.interactions is None or {"user_id", "item_id"} <= edition.interactions.columns.keys()
            )
            assert edition.items is None or {*edition.text} <= edition.items.columns.keys()
