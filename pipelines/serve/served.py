"""A loaded run as the service uses it: requests by identifiers in, answers ready for JSON out.

One thread calls it at a time. Shapes: B requests, K recommendations, k horizon."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from pipelines.data.sequences import Sequences
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.models.base import DigitModel
from pipelines.recommend.explain import Explainer
from pipelines.recommend.model import Found, Model, Query
from pipelines.recommend.similar import text_path
from pipelines.serve.config import MOST
from pipelines.serve.messages import Ask
from pipelines.where.columns import kind_of

JOINED = 64  # see `Model.find`
FILTERS = 64  # filters whose items are kept
FLAGS = {  # option of the command line, as messages of the program name it → field of a request
    "--where": "where",
    "--allow": "allow",
    "--deny": "deny",
    "--unmask": "order",
    "--nfe": "nfe",
    "--beams": "beams",
    "--explain": "explain",
}
FLAG = re.compile("|".join(FLAGS))


class Unusable(Exception):
    """A request that cannot be answered; its fault.

    Attributes:
        place: field of the request at fault, after the part that has it: ("body", "where"); or the part
            alone.
    """

    def __init__(self, message: str, *place: str) -> None:
        super().__init__(message)
        self.place = place


class NoSuchItem(Exception):
    """The id of a path is no item."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request, resolved for a run.

    Attributes:
        query: settings; requests with an equal `key` are answered together.
        key: what the query was made from, without k.
        history: item numbers, int32 [n].
        user: number that seeds what is random.
        unknown: ids of the history that are no items, each once.
        explain: true if explanations are wanted.
    """

    query: Query
    key: tuple[object, ...]
    history: np.ndarray
    user: int
    unknown: list[str]
    explain: bool


class Served:
    """A loaded run that answers requests."""

    def __init__(self, model: Model) -> None:
        self.model = model
        names = model.table.names
        self.ids: list[str] = names["item_id"].to_list()
        self.titles: list[str] = names["title"].to_list()
        self._qualifying = functools.lru_cache(maxsize=FILTERS)(model.table.qualifying)
        self._sids = model.trained.catalogue.sids
        self.warm_up()

    def warm_up(self) -> None:
        """Load what the first requests would wait for, and answer two."""
        _ = self.model.popularity, self.facts
        if self.model.has_users:
            _ = self.model.users
        has_digits = isinstance(self.model.trained.model, DigitModel)
        for where in ("item_id is not null", None):
            self.answer([self.prepare(Ask(history=self.ids[:1], where=where, explain=has_digits))])

    def prepare(self, ask: Ask) -> Prepared:
        """Resolve a request.

        Raises:
            Unusable: a field cannot be used.
        """
        if (ask.history is None) == (ask.user is None):
            raise Unusable("Give exactly one of history and user.", "body")
        filters = (ask.where, *(None if ids is None else tuple(ids) for ids in (ask.allow, ask.deny)))
        try:
            decoding = Decoding(unmask=ask.order, nfe=ask.nfe, beams=ask.beams or Decoding().beams)
            query = self.model.query(decoding, ask.k, ask.exclude_seen)
            if ask.explain:
                _ = self._explainer
            if filters != (None, None, None):
                query = Query(query.decoding, ask.k, self._qualifying(*filters))
        except UserError as error:
            raise _unusable(error) from None
        history, user, unknown = self._history(ask)
        return Prepared(query, (query.decoding, *filters), history, user, unknown, ask.explain)

    def _history(self, ask: Ask) -> tuple[np.ndarray, int, list[str]]:
        """Return the item numbers of a request, the number of its user, and ids that are no items."""
        if ask.history is not None:
            numbers = self.model.table.numbers(ask.history)
            unknown = [name for name, number in zip(ask.history, numbers, strict=True) if number < 0]
            return numbers[numbers >= 0].astype(np.int32), 0, list(dict.fromkeys(unknown))
        assert ask.user is not None, "one of them is given"
        if not self.model.has_users:
            raise Unusable("The run is a bundle, which holds no users: give a history.", "body", "user")
        row = self.model.find_user(ask.user)
        if row is None:
            raise Unusable("There is no such user in the data set.", "body", "user")
        offsets = self.model.sequences.offsets
        return self.model.sequences.items[offsets[row] : offsets[row + 1]], row, []

    def answer(self, asked: Sequence[Prepared]) -> list[dict[str, Any]]:
        """Answer requests with equal keys together.

        Returns:
            For each request the fields of `messages.Answer`, without the time.
        """
        widest = max((each.query for each in asked), key=lambda query: query.k)
        histories = [each.history for each in asked]
        offsets = np.cumsum([0, *map(len, histories)])
        users = np.array([each.user for each in asked], np.int32)
        sequences = Sequences(np.concatenate(histories), offsets)
        found = self.model.find(widest, sequences, users, fewest=JOINED)
        return [self._one(each, found, place) for place, each in enumerate(asked)]

    def _one(self, asked: Prepared, found: Found, place: int) -> dict[str, Any]:
        items, scores = found.items[place, : asked.query.k], found.scores[place, : asked.query.k]
        exists = np.isfinite(scores) & (items >= 0).all(1)  # [K]
        by_model = bool(found.by_model[place])
        rows: list[dict[str, Any]] = []
        kept = zip(items[exists].tolist(), scores[exists].tolist(), strict=True)
        for rank, (numbers, score) in enumerate(kept, start=1):
            for position, number in enumerate(numbers, start=1):
                row = {
                    "rank": rank,
                    "item_id": self.ids[number],
                    "title": self.titles[number],
                    "score": score,
                }
                rows.append({**row, "position": position} if len(numbers) > 1 else row)
        if asked.explain and by_model:
            self._explain(asked, items[exists].ravel(), rows)
        return {
            "run": self.model.run.name,
            "source": "model" if by_model else "popularity",
            "unknown": asked.unknown,
            "recommendations": rows,
        }

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.model)

    def _explain(self, asked: Prepared, items: np.ndarray, rows: list[dict[str, Any]]) -> None:
        """Add explanations to the rows of recommended items, int64 [rows]."""
        if not len(items):
            return
        table = self._explainer.explain(asked.history, items, asked.query.decoding, asked.user)
        digits = table.drop("item_id").to_dicts()
        each = len(digits) // len(rows)
        for place, row in enumerate(rows):
            row["explanation"] = digits[place * each : (place + 1) * each]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The fields of `messages.RunFacts`."""
        model, table = self.model.trained.model, self.model.table
        digits = isinstance(model, DigitModel)
        decoding = self.model.query(Decoding(), 1).decoding
        S = self.model.trained.horizon * model.digits if isinstance(model, DigitModel) else 1
        similarities = {
            "model": True,
            "text": text_path(self.model.trained) is not None,
            "sids": self._sids is not None,
        }
        schema = table.frame.schema
        return {
            "run": self.model.run.name,
            "model": model.config.name,
            "dataset": table.dataset,
            "items": len(self.ids),
            "users": len(self.model.sequences) if self.model.has_users else None,
            "max_items": model.config.max_items,
            "horizon": self.model.trained.horizon,
            "digits": model.digits if isinstance(model, DigitModel) else None,
            "codes": model.codes if isinstance(model, DigitModel) else None,
            "orders": list(model.orders) if isinstance(model, DigitModel) else [],
            "similarities": [name for name, possible in similarities.items() if possible],
            "decoding": {
                "order": decoding.unmask if digits else None,
                "nfe": decoding.nfe or S,
                "beams": decoding.beams,
            },
            "title_column": table.title_column,
            "columns": [
                {"name": name, "kind": kind_of(kind), "list": isinstance(kind, (pl.List, pl.Array))}
                for name, kind in schema.items()
                if kind_of(kind)
            ],
            "max_k": MOST,
        }

    def search(self, part: str, limit: int) -> dict[str, Any]:
        """Return the fields of `messages.FoundItems` for a part of titles; an empty one finds all items."""
        popularity = self.model.popularity
        order = popularity.order
        if part:
            numbers = self.model.table.containing(part)
            order = numbers[np.argsort(-popularity.counts[numbers], kind="stable")]
        items = [
            {"item_id": self.ids[i], "title": self.titles[i], "interactions": int(popularity.counts[i])}
            for i in order[:limit].tolist()
        ]
        return {"total": len(order), "items": items}

    def number(self, item_id: str) -> int:
        """Return the number of an item.

        Raises:
            NoSuchItem: there is none.
        """
        number = int(self.model.table.numbers([item_id])[0])
        if number < 0:
            raise NoSuchItem
        return number

    def item(self, item_id: str) -> dict[str, Any]:
        """Return the fields of `messages.ItemFacts`.

        Raises:
            NoSuchItem: there is no such item.
        """
        number, frame = self.number(item_id), self.model.table.frame
        sid = None if self._sids is None else self._sids[number].tolist()
        words = None
        if sid is not None and isinstance(self.model.trained.model, DigitModel):
            words = [self._explainer.words(digit, code) for digit, code in enumerate(sid)]
        return {
            "item_id": item_id,
            "title": self.titles[number],
            "interactions": int(self.model.popularity.counts[number]),
            "sid": sid,
            "words": words,
            "columns": {name: _plain(v) for name, v in zip(frame.columns, frame.row(number), strict=True)},
        }

    def similar(self, item_id: str, k: int, by: str) -> dict[str, Any]:
        """Return the fields of `messages.SimilarItems`.

        Raises:
            NoSuchItem: there is no such item.
            Unusable: the run has no vectors of this kind.
        """
        number = self.number(item_id)
        try:
            found = self.model.similar([item_id], k, by=by)
        except UserError as error:
            raise Unusable(str(error).replace("--by", "by"), "query", "by") from None
        rows = found.select("rank", pl.col("similar_id").alias("item_id"), "title", "score").to_dicts()
        return {"item_id": item_id, "title": self.titles[number], "by": by, "items": rows}


def _unusable(error: UserError) -> Unusable:
    """Return the fault of a request that a message of the program names by an option."""
    named = FLAG.search(str(error))
    message = FLAG.sub(lambda match: FLAGS[match[0]], str(error))
    return Unusable(message, "body", *([FLAGS[named[0]]] if named else []))


def _plain(value: Any) -> Any:
    """Return a value of a column as JSON can hold it; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
