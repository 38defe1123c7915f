"""Requests of any form: a small part of `python -m benchmarks.serve_fuzz`, in this process."""

from __future__ import annotations

import schemathesis
from starlette.testclient import TestClient

from benchmarks.serve_fuzz import fuzz


def test_requests_of_any_form_get_an_answer_of_the_document(client: TestClient) -> None:
    def post(body: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        return client.post("/recommend", content=body, headers=headers).status_code

    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    statuses = fuzz(schema, post, 200)
    assert sum(statuses.values()) > 100
    assert statuses["any bytes", 422] > 10
    assert any(label == "POST /recommend" and status == 422 for label, status in statuses)
