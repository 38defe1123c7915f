"""Valid files of the formats that `maskgr import` tells by their content, and how they are mutated."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.fuzz import mutate, world

HISTORIES = {
    user: [item for other, item, _, _ in world.ROWS if other == user]
    for user in dict.fromkeys(user for user, *_ in world.ROWS)
}


class Format(NamedTuple):
    """A valid file and its mutation.

    Attributes:
        file: name of the file.
        data: function that returns its content.
        mutation: corrupts the content.
    """

    file: str
    data: Callable[[], bytes]
    mutation: mutate.Mutation


def _lists() -> bytes:
    rows = [f'{user},"{json.dumps(items)}","{list(range(len(items)))}"' for user, items in HISTORIES.items()]
    text = "\n".join(["user_id,item_ids,timestamps", *rows]) + "\n"
    return (
        text.replace('"[\\"', "\"['")
        .replace('["', "['")
        .replace('"]"', "']\"")
        .replace('", "', "', '")
        .encode()
    )


def _dated() -> bytes:
    rows = [f"{u};{i};{t % 28 + 1:02}.{t % 12 + 1:02}.2024 12:{t % 60:02}" for u, i, t, _ in world.ROWS]
    return ("\n".join(["user_id;item_id;timestamp", *rows]) + "\n").encode("utf-16")


def _nested() -> bytes:
    rows = [{"user": {"id": u}, "product": {"sku": i}, "time": t} for u, i, t, _ in world.ROWS]
    return world.json_lines(rows)


def _typed(separator: str = "\t") -> bytes:
    header = ("user_id:token", "item_id:token", "timestamp:float", "rating:float")
    return "".join(separator.join(map(str, row)) + "\n" for row in (header, *world.ROWS)).encode()


def _typed_items() -> bytes:
    rows = [(e["item_id"], e["title"], " ".join(map(str, (e["tags"])))) for e in world.items()]  # type: ignore[call-overload]
    header = ("item_id:token", "title:token_seq", "tags:token_seq")
    return "".join("\t".join(map(str, row)) + "\n" for row in (header, *rows)).encode()


INTERACTIONS = {
    "interactions in JSON": Format(
        "own.json", lambda: json.dumps(world.interactions()).encode(), mutate.of_json
    ),
    "interactions nested": Format("own.jsonl", _nested, mutate.of_lines),
    "interactions in Python literals": Format(
        "own.txt", lambda: "\n".join(map(repr, world.interactions())).encode(), mutate.of_lines
    ),
    "interactions of RecBole": Format("own.inter", _typed, mutate.of_csv("\t")),
    "interactions in a dictionary": Format(
        "own.inter.json", lambda: json.dumps(HISTORIES).encode(), mutate.of_json
    ),
    "interactions in sequences": Format(
        "own.txt",
        lambda: "".join(f"{u} {' '.join(items)}\n" for u, items in HISTORIES.items()).encode(),
        mutate.of_csv(" "),
    ),
    "interactions in pairs": Format(
        "own.txt", lambda: "".join(f"{u} {i}\n" for u, i, *_ in world.ROWS).encode(), mutate.of_csv(" ")
    ),
    "interactions in lists": Format("own.csv", _lists, mutate.of_csv(",")),
    "interactions with dates": Format("own.csv", _dated, mutate.of_bytes),
    "interactions by ::": Format(
        "own.dat.gz", lambda: gzip.compress(_typed("::"), mtime=0), mutate.in_gzip(mutate.of_csv("::"))
    ),
}
ITEMS = {
    "own items of RecBole": Format("own.item", _typed_items, mutate.of_csv("\t")),
    "own items in a dictionary": Format(
        "own.item.json",
        lambda: json.dumps(
            {str(e["item_id"]): {"title": e["title"], "price": e["price"]} for e in world.items()}
        ).encode(),
        mutate.of_json,
    ),
    "own items in Python literals": Format(
        "own.json", lambda: "\n".join(map(repr, world.items())).encode(), mutate.of_lines
    ),
}
TOKENS = Format(
    "own.index.json",
    lambda: json.dumps(
        {str(e["item_id"]): ["<a_1>", f"<b_{n}>"] for n, e in enumerate(world.items())}
    ).encode(),
    mutate.of_json,
)
