"""What the service answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from pipelines.bundle.build import export_run
from pipelines.bundle.config import BundleConfig
from pipelines.decode.config import Decoding
from pipelines.recommend.load import load
from pipelines.recommend.model import Model
from pipelines.serve.config import LARGEST_BODY, LONGEST_HISTORY
from pipelines.serve.messages import Ask
from pipelines.serve.served import Served
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.recommend.test_model import HISTORY, SOFTMAX
from tests.serve.conftest import running
from tests.train.test_leakage import ITEMS

Loaded = Callable[..., Model]
RUNS = [("maskgr", {}), ("maskgr", SOFTMAX), ("tiger", {}), ("sasrec", {}), ("dreamrec", {})]


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/recommend", json=body)


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["item_id"] for row in answer["recommendations"]]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"exclude_seen": True, "where": "price < 30", "deny": ["item-6"]},
        {"nfe": 2, "order": "random", "beams": 7},
        {"allow": ["item-1", "item-2", "nothing"]},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
def test_the_answer_is_the_list_of_recommend(client: TestClient, served: Served, settings: dict) -> None:
    names = {"nfe": "nfe", "order": "unmask", "beams": "beams"}
    decoding = Decoding(**{names[name]: value for name, value in settings.items() if name in names})
    others = {name: value for name, value in settings.items() if name not in names}
    expected = served.model.recommend([HISTORY], k=5, decoding=decoding, **others)
    answer = ask(client, history=HISTORY, k=5, **settings).json()
    assert ids(answer) == expected["item_id"].to_list()
    rows = answer["recommendations"]
    assert [row["title"] for row in rows] == expected["title"].to_list()
    assert [row["rank"] for row in rows] == expected["rank"].to_list()
    np.testing.assert_allclose([row["score"] for row in rows], expected["score"], rtol=1e-4)
    assert (answer["source"], answer["run"], answer["unknown"]) == ("model", served.model.run.name, [])
    assert answer["milliseconds"] > 0


@pytest.mark.parametrize(("name", "settings"), RUNS, ids=lambda value: str(value)[:9])
def test_requests_that_are_answered_together_get_what_they_get_alone(
    model: Loaded, name: str, settings: dict[str, Any]
) -> None:
    """Histories of different lengths, known users and the empty history share one padded batch."""
    served = Served(model(name, **settings))
    bodies = [
        {"history": HISTORY, "k": 4},
        {"history": ["item-9"], "k": 7},
        {"history": [], "k": 2},
        {"user": "user-3", "k": 5},
        {"history": ["item-1", "unknown", *HISTORY * 3], "k": 5},
        {"history": ["item-8", "item-2"], "k": 1},
    ]
    prepared = [served.prepare(Ask(**body)) for body in bodies]
    assert len({each.key for each in prepared}) == 1
    together = served.answer(prepared)
    for body, each, answer in zip(bodies, prepared, together, strict=True):
        (alone,) = served.answer([each])
        assert ids(answer) == ids(alone)
        assert len(ids(answer)) == body["k"]
        scores = [[row["score"] for row in part["recommendations"]] for part in (answer, alone)]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)
    assert [answer["source"] for answer in together].count("popularity") == 1
    assert together[4]["unknown"] == ["unknown"]


def test_a_known_user_has_the_history_of_the_data_set(client: TestClient, served: Served) -> None:
    history = served.model.history("user-3")
    by_user, by_history = (
        ask(client, k=6, **body).json() for body in ({"user": "user-3"}, {"history": history})
    )
    assert by_user["recommendations"] == by_history["recommendations"]


def test_explanations_are_those_of_recommend(client: TestClient, served: Served) -> None:
    from pipelines.recommend.histories import history_of

    model = served.model
    query = model.query(Decoding(nfe=3), 3)
    expected = model.answer(query, history_of(HISTORY, model.table), explain=True)["explanation"].to_list()
    answer = ask(client, history=HISTORY, k=3, nfe=3, explain=True).json()
    for row, digits in zip(answer["recommendations"], expected, strict=True):
        for one, other in zip(row["explanation"], digits, strict=True):
            assert {**one, "probability": 0} == {**other, "probability": 0}
            assert one["probability"] == pytest.approx(other["probability"], rel=1e-3)
        assert [digit["evaluation"] for digit in row["explanation"]] == sorted(
            digit["evaluation"] for digit in row["explanation"]
        )


@pytest.mark.parametrize("length", [0, 1, 500, LONGEST_HISTORY])
def test_a_history_may_be_short_or_long(client: TestClient, served: Served, length: int) -> None:
    """The model sees the last items of a long one."""
    history = [f"item-{i % ITEMS}" for i in range(length)]
    answer = ask(client, history=history, k=3)
    assert answer.status_code == 200
    short = history[-served.model.trained.model.config.max_items :]
    assert ids(answer.json()) == ids(ask(client, history=short, k=3).json())
    assert answer.json()["source"] == ("model" if length else "popularity")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"history": HISTORY, "k": 0}, ["k"]),
        ({"history": HISTORY, "k": 10**9}, ["k"]),
        ({"history": HISTORY, "k": 1.5}, ["k"]),
        ({"history": HISTORY, "k": True}, ["k"]),
        ({"history": HISTORY, "k": "5"}, ["k"]),
        ({"history": HISTORY, "k": 10**30}, ["k"]),
        ({"history": HISTORY, "where": "price <"}, ["where"]),
        ({"history": HISTORY, "where": "__import__('os')"}, ["where"]),
        ({"history": HISTORY, "where": "price < -1"}, ["where"]),
        ({"history": HISTORY, "where": "cost < 1"}, ["where"]),
        ({"history": HISTORY, "where": "a" * 1001}, ["where"]),
        ({"history": HISTORY, "where": "price < 3", "deny": ["item-1", "item-2"]}, ["where"]),
        ({"history": HISTORY, "allow": []}, ["allow"]),
        ({"history": HISTORY, "allow": ["nothing"]}, ["allow"]),
        ({"history": HISTORY, "deny": [1]}, ["deny", 0]),
        ({"history": HISTORY, "order": "sideways"}, ["order"]),
        ({"history": HISTORY, "nfe": 99}, ["nfe"]),
        ({"history": HISTORY, "nfe": -1}, ["nfe"]),
        ({"history": HISTORY, "beams": 0}, ["beams"]),
        ({"history": [1, 2]}, ["history", 0]),
        ({"history": [None]}, ["history", 0]),
        ({"history": "item-1"}, ["history"]),
        ({"history": ["item-1"] * (LONGEST_HISTORY + 1)}, ["history"]),
        ({"user": "nobody"}, ["user"]),
        ({"user": 3}, ["user"]),
        ({"user": "user-3", "history": []}, []),
        ({}, []),
        ([], []),
        ({"history": HISTORY, "path": "/etc/passwd"}, ["path"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_status_422_names_the_field_at_fault(client: TestClient, body: Any, field: list[str | int]) -> None:
    answer = client.post("/recommend", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", *field]
    assert "--" not in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"\xff\xfe", 422),
        (b'{"history": NaN}', 422),
        (b'{"history": [], "k": Infinity}', 422),
        (b'{"history": ["\\ud800"]}', 422),
        (b'{"history": ["\xed\xa0\x80"]}', 422),
        (b'{"history": ["\\u0000"]}', 200),
        (b"[" * 100_000, 422),
        (b'{"history": ' + b"[" * 100_000, 422),
        (b'{"k": 3, "k": 2, "history": []}', 200),
        (b'{"history": []}' + b" " * (LARGEST_BODY - 15), 200),
        (b'{"history": []}' + b" " * (LARGEST_BODY - 14), 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_of_any_bytes_has_a_status(client: TestClient, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    assert client.post("/recommend", content=body, headers=headers).status_code == status
    parts = (body[start : start + 65536] for start in range(0, len(body), 65536))
    answer = client.post("/recommend", content=parts, headers=headers)  # without a length
    assert answer.status_code == status
    if b'"k": 3' in body:
        assert len(ids(answer.json())) == 2  # the last of equal keys counts


def test_another_kind_of_body_is_refused(client: TestClient) -> None:
    assert client.post("/recommend", content=b"{}").status_code == 415
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/recommend", content=b'{"history": []}', headers=headers).status_code == 200


def test_items_are_found_by_title_and_shown(client: TestClient, served: Served) -> None:
    found = client.get("/items", params={"q": "THING 5", "limit": 3}).json()
    assert found["total"] == 11  # 5 and 50 … 59
    counts = served.model.popularity.counts
    best = sorted((5, *range(50, 60)), key=lambda i: (-counts[i], i))[:3]
    assert [(row["item_id"], row["interactions"]) for row in found["items"]] == [
        (f"item-{i}", counts[i]) for i in best
    ]
    assert client.get("/items").json()["total"] == ITEMS
    assert client.get("/items", params={"q": "nothing at all"}).json() == {"total": 0, "items": []}
    shown = client.get("/items/item-7").json()
    assert shown["columns"]["price"] is None
    assert shown["columns"]["tags"] == ["odd", "all"]
    assert shown["sid"] == served.model.semantic_ids["sid"][7].to_list()
    for path in ("/items/none", "/items/", "/similar/none", "/items/a/b/../c", "/items/%2e%2e%2fetc"):
        assert client.get(path).status_code == 404
    for params in ({"limit": 0}, {"limit": 10**6}, {"limit": "x"}, {"q": "x" * 1001}):
        assert client.get("/items", params=params).status_code == 422


def test_an_item_has_the_words_of_its_explanation(client: TestClient, served: Served) -> None:
    row = ask(client, history=HISTORY, k=1, explain=True).json()["recommendations"][0]
    shown = client.get(f"/items/{row['item_id']}").json()
    digits = sorted(row["explanation"], key=lambda digit: digit["digit"])
    assert shown["words"] == [digit["words"] for digit in digits]
    assert shown["sid"] == [digit["code"] for digit in digits]


def test_values_that_json_cannot_hold_and_ids_with_slashes(served: Served, monkeypatch) -> None:
    frame = served.model.table.frame
    odd = frame.with_columns(price=float("nan"), group=b"\xff", item_id=frame["item_id"])
    monkeypatch.setitem(served.model.table.__dict__, "frame", odd)
    monkeypatch.setitem(served.model.table._numbers, "a/b c?/../%", 3)
    with running(served) as (client, _):
        shown = client.get("/items/a%2Fb%20c%3F%2F..%2F%25")
        assert shown.status_code == 200
        assert shown.json()["item_id"] == "a/b c?/../%"
        assert shown.json()["columns"]["price"] is None


@pytest.mark.parametrize("by", ["model", "sids"])
def test_similar_items_are_those_of_the_model(client: TestClient, served: Served, by: str) -> None:
    expected = served.model.similar(["item-4"], 3, by=by)
    found = client.get("/similar/item-4", params={"by": by, "k": 3}).json()
    assert [row["item_id"] for row in found["items"]] == expected["similar_id"].to_list()
    assert (found["item_id"], found["title"]) == ("item-4", "Thing 4")


def test_similarity_that_a_run_does_not_have_is_refused(model: Loaded) -> None:
    with running(Served(model("sasrec"))) as (client, _):
        assert client.get("/run").json()["similarities"] == ["model"]
        for by in ("sids", "text", "nothing"):
            answer = client.get("/similar/item-4", params={"by": by})
            assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "by"])
        explained = ask(client, history=HISTORY, explain=True)
        assert (explained.status_code, explained.json()["detail"][0]["loc"]) == (422, ["body", "explain"])


def test_the_run_is_described(client: TestClient, served: Served) -> None:
    facts = client.get("/run").json()
    assert (facts["items"], facts["dataset"], facts["model"]) == (ITEMS, "toy", "maskgr")
    assert facts["decoding"] == {"order": "greedy", "nfe": 1, "beams": 20}
    columns = {column["name"]: (column["kind"], column["list"]) for column in facts["columns"]}
    assert columns["price"] == ("number", False)
    assert columns["tags"] == ("text", True)
    for name in columns:  # every one can be used
        assert ask(client, history=[], where=f'"{name}" is not null').status_code == 200
    for order in facts["orders"]:
        assert ask(client, history=HISTORY, order=order, nfe=facts["digits"]).status_code == 200


def test_every_answer_forbids_foreign_content(client: TestClient) -> None:
    for path in ("/run", "/docs", "/nothing", "/items/none"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; object-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_of_operations_needs_no_network_and_no_script(client: TestClient) -> None:
    page = client.get("/docs").text
    assert not re.search(r"<script|<link|<img|src=|https?://", page)
    for path in client.get("/openapi.json").json()["paths"]:
        assert path in page


def test_a_page_is_served_where_there_is_one(served: Served, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<h1>Recommendations</h1>")
    (tmp_path / "secret").write_text("secret")
    with running(served, page=tmp_path / "page") as (client, _):
        assert "Recommendations" in client.get("/").text
        assert client.get("/run").status_code == 200
        for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret"):
            assert client.get(path).status_code == 404
    with running(served, page=tmp_path) as (client, _):
        assert client.get("/").status_code == 404


def test_answers_fit_the_openapi_document(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    declared = document["paths"]["/recommend"]["post"]["requestBody"]["content"]["application/json"]
    assert set(declared["schema"]["properties"]) == set(Ask.model_fields)
    assert json.dumps(document)


def test_a_bundle_is_served_without_users(served: Served, store: Workspace, tmp_path: Path) -> None:
    """It answers histories as its run does, and refuses users."""
    export_run(store, served.model.run, tmp_path / "bundle", BundleConfig(), ListProgress())
    bundle = Served(load(tmp_path / "bundle", device="cpu"))
    history = {"history": served.ids[:3]}
    with running(bundle) as (client, _):
        answer = client.post("/recommend", json=history).json()
        assert client.get("/run").json()["users"] is None
        refused = client.post("/recommend", json={"user": "1"})
    assert refused.status_code == 422 and refused.json()["detail"][0]["loc"] == ["body", "user"]
    assert "bundle" in refused.text
    with running(served) as (client, _):
        expected = client.post("/recommend", json=history).json()
        assert client.get("/run").json()["users"] > 0
    assert answer["recommendations"] == expected["recommendations"]
