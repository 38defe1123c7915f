"""Names by which columns are known."""

from __future__ import annotations

import pytest

from pipelines.readers.names import ITEMS, TIMESTAMPS, USERS, is_known_identifier, matches


@pytest.mark.parametrize(
    ("columns", "names", "lists", "expected"),
    [
        (
            ["reviewerID", "userId", "user-id:token", "x"],
            USERS,
            (),
            ["userId", "user-id:token", "reviewerID"],
        ),
        (["parent_asin", "asin"], ITEMS, (), ["asin", "parent_asin"]),
        (["user.id", "user.country"], USERS, (), ["user.id"]),
        (["product.sku", "sku"], ITEMS, (), ["sku", "product.sku"]),
        (["purchased_at", "ts"], TIMESTAMPS, (), ["ts", "purchased_at"]),
        (["sequence_item_ids"], ITEMS, ["sequence_item_ids"], ["sequence_item_ids"]),
        (["itemIds"], ITEMS, ["itemIds"], ["itemIds"]),
        (["items"], ITEMS, ["items"], ["items"]),
        (["history"], ITEMS, ["history"], []),
        (["items"], ITEMS, (), []),
        (["sequence_timestamps"], TIMESTAMPS, ["sequence_timestamps"], ["sequence_timestamps"]),
    ],
)
def test_columns_by_common_names(
    columns: list[str], names: tuple[str, ...], lists: list[str], expected: list[str]
) -> None:
    assert matches(columns, names, lists) == expected


def test_identifiers() -> None:
    assert all(map(is_known_identifier, ("userId", "product.sku", "ID", "asin")))
    assert not any(map(is_known_identifier, ("price", "title", "timestamp")))
