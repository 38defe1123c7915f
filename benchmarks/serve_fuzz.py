"""Malformed requests to the HTTP service: Schemathesis makes them from the OpenAPI document, Hypothesis makes
bodies of any bytes. No answer may have status 500 or above but 503, or differ from the document, and each
must come in time.

    python -m benchmarks.serve_fuzz RUN --workspace FOLDER --count 10000

The service runs as a process of its own on 127.0.0.1.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks.serve import served
from maskgr_cli import console
from pipelines import artifacts

SECONDS = 30.0  # in which an answer must come
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
VALID = b'{"history": ["a", "b"], "k": 5, "where": "price < 3", "nfe": 2, "explain": true}'
SHARE = 5  # one request in so many has a body of any bytes


def bodies() -> st.SearchStrategy[bytes]:
    """Return bodies of any bytes, and a valid body of which a part is replaced by any bytes."""
    places = st.integers(0, len(VALID))
    replaced = st.tuples(places, places, st.binary()).map(
        lambda drawn: VALID[: min(drawn[:2])] + drawn[2] + VALID[max(drawn[:2]) :]
    )
    return st.binary() | replaced


def fuzz(
    schema: Any, post: Callable[[bytes], int], count: int, number: int = 0, call: dict[str, Any] | None = None
) -> Counter[tuple[str, int]]:
    """Send about so many requests, and check every answer.

    Args:
        schema: the OpenAPI document as Schemathesis loads it.
        post: sends a body to /recommend and returns the status of the answer.
        count: number of requests.
        number: seed.
        call: further arguments of a call.

    Returns:
        Number of answers by operation and status.

    Raises:
        AssertionError: an answer is not as it must be; the message has the request.
    """
    statuses: Counter[tuple[str, int]] = Counter()
    operations = [result.ok() for result in schema.get_all_operations()]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    kinds = [(operation, mode) for operation in operations for mode in modes if _varies(operation, mode)]
    each = max(1, (count - count // SHARE) // len(kinds))
    for operation, mode in kinds:
        wanted = operation.as_strategy(generation_mode=mode)

        def send(case: Any, label: str = operation.label) -> None:
            response = case.call(**call or {})
            assert response.status_code < 500 or response.status_code == 503, case.as_curl_command()
            case.validate_response(response, checks=CHECKS)
            statuses[label, response.status_code] += 1

        _search(send, wanted, each, number)

    def send_bytes(body: bytes) -> None:
        status = post(body)
        assert status < 500 or status == 503, body
        statuses["any bytes", status] += 1

    _search(send_bytes, bodies(), max(1, count // SHARE), number)
    return statuses


def _varies(operation: Any, mode: GenerationMode) -> bool:
    """Return True if an operation has more than one valid request, or an invalid one."""
    if mode is GenerationMode.NEGATIVE:
        return bool(len(operation.query) or len(operation.body))  # any text is an item's id
    return bool(len(operation.query) or len(operation.body) or len(operation.path_parameters))


def _search(test: Callable[[Any], None], strategy: Any, examples: int, number: int) -> None:
    """Call a function with so many examples at most."""
    limits = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @limits
    @given(strategy)
    def run(value: Any) -> None:
        test(value)

    run()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="name of a run")
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--count", type=int, default=1000, help="number of requests")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with served(options.run, options.workspace) as server:
        address = f"http://127.0.0.1:{server.port}"
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        with httpx.Client(base_url=address, timeout=SECONDS) as client:

            def post(body: bytes) -> int:
                headers = {"Content-Type": "application/json"}
                return client.post("/recommend", content=body, headers=headers).status_code

            statuses = fuzz(schema, post, options.count, options.seed, {"timeout": SECONDS})
            assert client.get("/ready").status_code == 200
    rows = [(label, status, number) for (label, status), number in sorted(statuses.items())]
    total = f"{sum(statuses.values()):,} requests, {artifacts.machine()}"
    console.table(total, ["operation", "status", "requests"], rows, left=("operation",))


if __name__ == "__main__":
    main()
