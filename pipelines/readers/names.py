"""Names by which the columns of users, items, times and ratings are known."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Known names, best first. They are compared as `plain` returns them.
USERS = (
    *(
        "user_id",
        "user",
        "uid",
        "reviewer_id",
        "customer_id",
        "customer",
        "visitor_id",
        "username",
        "user_name",
    ),
    *("session_id", "session", "kunde"),
)
ITEMS = (
    *("item_id", "item", "iid", "asin", "parent_asin", "product_id", "product", "movie_id", "track_id"),
    *("news_id", "article_id", "book_id", "business_id", "game_id", "app_id", "sku"),
)
ITEM_ROWS = (*ITEMS, "id")  # in a file of items
TIMESTAMPS = (
    *("timestamp", "time", "unix_review_time", "datetime", "date", "created_at", "ts", "event_time"),
    *("purchased_at", "ordered_at", "bought_at", "occurred_at", "viewed_at", "clicked_at", "rated_at"),
    *("updated_at", "event_timestamp", "event_date", "order_date", "purchase_date", "review_date"),
)
POSITIONS = ("position", "order", "index", "rank", "step")
RATINGS = ("rating", "score", "stars", "overall")
LIST_WORDS = {"sequence", "seq", "list", "history", "hist", "past"}  # parts of the names of columns of lists

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")


def plain(name: str) -> str:
    """Return the name of a column in lower case, without blanks, dots, dashes and underscores.

    The suffix of a header of the form name:type is removed too.
    """
    return re.sub(r"[\s._-]", "", name.lower().split(":")[0])


def plain_of_list(name: str) -> str:
    """Return the plain name of a column of lists as that of one entry: "sequence_item_ids" → "itemid"."""
    words = [word.lower() for word in WORD.findall(name.split(":")[0])]
    kept = [word for word in words if word not in LIST_WORDS] or words
    kept[-1:] = [word.removesuffix("s") if len(word) > 2 else word for word in kept[-1:]]
    return "".join(kept)


def matches(columns: Iterable[str], names: Iterable[str], lists: Iterable[str] = ()) -> list[str]:
    """Return the columns that are known by a name, best first.

    A column matches by its whole name; a nested one ("product.sku") also by the last part of it.

    Args:
        columns: names of columns.
        names: known names, best first.
        lists: those of the columns that hold lists.
    """
    order = {plain(name): place for place, name in reversed(list(enumerate(names)))}
    holding_lists = set(lists)
    found = []
    for number, column in enumerate(columns):
        last = column.rsplit(".", 1)[-1]
        candidates = [plain(column), plain_of_list(column)] if column in holding_lists else [plain(column)]
        places = [(0, order[name]) for name in candidates if name in order]
        if "." in column and plain(last) in order:
            places.append((1, order[plain(last)]))
        if places:
            found.append((*min(places), number, column))
    return [column for *_, column in sorted(found)]


def is_known_identifier(name: str) -> bool:
    """Return True for the name of a column that may hold identifiers of users or items."""
    return plain(name) in IDENTIFIERS or plain(name.rsplit(".", 1)[-1]) in IDENTIFIERS


IDENTIFIERS = {plain(name) for name in (*USERS, *ITEM_ROWS)}
