"""A trained run that recommends: the class behind `maskgr.load` and the commands `recommend` and `items`.

Shapes: B histories, N items, K beams, k horizon."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import polars as pl
from torch import Tensor

from pipelines.bundle.read import Counts
from pipelines.data.sequences import Sequences, load_sequences
from pipelines.data.splits import Split
from pipelines.data.stored import StoredSequences
from pipelines.decode.build_index import build_index
from pipelines.decode.config import Decoding
from pipelines.decode.sid_index import SidIndex
from pipelines.errors import UserError
from pipelines.evaluate.capabilities import check_horizon, resolve_decoding
from pipelines.evaluate.recommend import Recommendations, recommend
from pipelines.models.base import DigitModel
from pipelines.models.loading import TrainedRun
from pipelines.models.nn.precision import autocast
from pipelines.options import SHARE, check_number, has_no_effect
from pipelines.processes import Processes
from pipelines.progress import Silent
from pipelines.recommend.diversify import CANDIDATES, most_marginal
from pipelines.recommend.histories import Histories
from pipelines.recommend.items import ItemTable
from pipelines.recommend.popular import Popularity
from pipelines.recommend.query import Found as Found
from pipelines.recommend.query import Query as Query
from pipelines.workspace import Run

INDICES = 8  # filters whose index is kept
DECODINGS = 256  # resolved decodings that are kept


class TruncatedHistory(UserWarning):
    """Histories that are longer than the model sees."""


class Model:
    """A trained run with its data set.

    Attributes:
        run: the run; the final run where there is one.
        trained: the loaded model, catalogue and data set.
        table: the items of the data set.
    """

    def __init__(self, run: Run, trained: TrainedRun, counts: Counts | None = None) -> None:
        """
        Args:
            run: the run.
            trained: the loaded run.
            counts: what a bundle holds in place of the users' sequences; None for a run of a workspace.
        """
        self.run, self.trained, self._counts = run, trained, counts
        self.table = ItemTable(trained.dataset)
        self._indices: dict[tuple[object, ...], SidIndex] = {}
        self._decodings: dict[tuple[Decoding, int, bool], Decoding] = {}
        self._compared: dict[str, Tensor] = {}

    @property
    def items(self) -> pl.DataFrame:
        """The catalogue: item_id, text, and the columns that were imported, in the order of item numbers."""
        return self.table.frame

    @property
    def semantic_ids(self) -> pl.DataFrame:
        """Semantic IDs: item_id, and sid, a list of H codes.

        Raises:
            UserError: the model identifies items by number.
        """
        sids = self.trained.catalogue.sids
        if sids is None:
            raise UserError(f"{self.run.name} is a run of a model over item numbers; it has no semantic IDs.")
        return self.table.names.select("item_id").with_columns(sid=pl.Series(sids.tolist()))

    def require_users(self) -> None:
        """Check that the users of the data set are at hand.

        Raises:
            UserError: the model was loaded from a bundle.
        """
        if not self.has_users:
            raise UserError(
                f"{self.run.path} is a bundle, which holds no users and no interactions. Give the items of a "
                "history, as with --history, or name the run in its workspace."
            )

    @property
    def has_users(self) -> bool:
        """False if the model was loaded from a bundle, which holds no users."""
        return self._counts is None

    @cached_property
    def stored(self) -> StoredSequences:
        """The interactions of the users of the data set in their files; see `require_users`."""
        self.require_users()
        return StoredSequences(self.trained.dataset.sequences, self.trained.catalogue.items)

    @cached_property
    def sequences(self) -> Sequences:
        """All interactions of the users of the data set, in order of time; see `require_users`."""
        self.require_users()
        return load_sequences(self.trained.dataset.sequences, self.trained.catalogue.items)

    @cached_property
    def popularity(self) -> Popularity:
        """Numbers of interactions of the items."""
        if self._counts is not None:
            return Popularity.of_counts(self._counts.interactions)
        return Popularity.of_counts(self.stored.groups.item_counts(len(self.table), Processes()))

    @cached_property
    def users(self) -> pl.Series:
        """Users of the data set as text, by number, as a series "user_id"; see `require_users`."""
        return pl.Series("user_id", pl.from_arrow(self.stored.names())).cast(pl.String)

    def history(self, user: str) -> list[str]:
        """Return the items of a user of the data set, oldest first.

        Raises:
            UserError: there is no such user, or the model was loaded from a bundle.
        """
        return self.table.names["item_id"].gather(self.row_of(user)[1]).to_list()

    def row_of(self, user: str) -> tuple[int, np.ndarray]:
        """Return number and items of a user of the data set, int32 [n]."""
        row = self.find_user(user)
        if row is None:
            raise UserError(
                f"No user {user!r} in {self.trained.dataset.sequences}. Ids are those of the import; "
                "for another history use --history."
            )
        return row, self.stored.of_users(np.array([row])).items

    def find_user(self, user: str) -> int | None:
        """Return the number of a user of the data set; None if there is no such user."""
        found = (self.users == user).arg_true()
        return int(found[0]) if len(found) else None

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = False,
        where: str | None = None,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] | None = None,
        diversity: float = 0.0,
        decoding: Decoding | None = None,
    ) -> pl.DataFrame:
        """Recommend items to histories.

        k items come for every history for which k items qualify. Filters act inside the search. A history
        without a known item gets the most popular items that qualify.

        Args:
            histories: item identifiers of each history, oldest first. Unknown ones are left out, with a
                warning.
            k: number of recommendations.
            exclude_seen: if true, no item of a history is recommended to it.
            where: condition on the columns of `items`, e.g. "category = 'Kitchen' and price < 30".
            allow: identifiers of the only items that qualify.
            deny: identifiers of items that do not qualify.
            diversity: weight λ of unlikeness to the items above, from 0 to 1, by maximal marginal relevance
                among five times k candidates (Carbonell and Goldstein 1998).
            decoding: order of unmasking, function evaluations, beams; None for the run's defaults.

        Returns:
            A row for each recommendation: history (its position among the histories), rank (from 1), item_id,
            title, score, source ("model" or "popularity"). A run with a horizon of k items recommends lists
            of k items: position (from 1) is the place in the list.

        Raises:
            UserError: the condition cannot be read, no item qualifies, or the decoding does not suit the
                model.
        """
        numbers = [self.table.known(history, f"history {place}") for place, history in enumerate(histories)]
        offsets = np.cumsum([0, *map(len, numbers)])
        items = np.concatenate([np.zeros(0, np.int64), *numbers]).astype(np.int32)
        query = self.query(
            decoding or Decoding(), k, exclude_seen, where=where, allow=allow, deny=deny, diversity=diversity
        )
        names = pl.Series("history", np.arange(len(numbers)))
        return self.answer(query, Histories(names, Sequences(items, offsets)))

    def query(
        self,
        decoding: Decoding,
        k: int,
        exclude_seen: bool = False,
        *,
        where: str | None = None,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] | None = None,
        diversity: float = 0.0,
    ) -> Query:
        """Resolve settings of recommendations; see `recommend`.

        Raises:
            UserError: as `recommend`.
        """
        candidates = k
        if diversity:
            check_number("--diversity", diversity, *SHARE)
            if self.trained.horizon > 1:
                raise has_no_effect(["--diversity"], f"lists of {self.trained.horizon} items in a row")
            candidates = CANDIDATES * k
        asked = (decoding, candidates, exclude_seen)
        if asked not in self._decodings:
            if len(self._decodings) >= DECODINGS:
                self._decodings.pop(next(iter(self._decodings)))
            beams, seen = max(decoding.beams, candidates), decoding.exclude_seen or exclude_seen
            wide = dataclasses.replace(decoding, beams=beams, exclude_seen=seen)
            resolved = resolve_decoding(wide, self.trained.model, self.trained.horizon)
            check_horizon(resolved, self.trained.model, self.trained.horizon)
            self._decodings[asked] = resolved
        return Query(self._decodings[asked], k, self.table.qualifying(where, allow, deny), diversity)

    def answer(self, query: Query, histories: Histories, *, explain: bool = False) -> pl.DataFrame:
        """Return recommendations to named histories, as `recommend` does; the first column has the names.

        Args:
            query: settings.
            histories: item numbers.
            explain: if true, the column explanation has a list of a recommendation's digits, in the order in
                which they were revealed; see `explain.Explainer.explain`.

        Raises:
            UserError: the model has no digits to explain.
        """
        most = self.trained.model.config.max_items
        if cut := histories.items.truncated(most):
            warnings.warn(
                f"The model sees the last {most} items of a history; {cut:,} of {len(histories.items):,} are "
                "longer.",
                TruncatedHistory,
                stacklevel=3,
            )
        found = self.find(query, histories.items, histories.users)
        frame = found.frame(histories.names, self.table.names)
        if not explain:
            return frame
        from pipelines.recommend.explain import explanations

        name = histories.names.name
        explained = explanations(self, query.decoding, histories, found)
        return frame.join(explained, on=[name, "item_id"], how="left", maintain_order="left")

    def similar(self, items: Sequence[str], k: int = 10, *, by: str = "model") -> pl.DataFrame:
        """Return the items most similar to each of some items.

        Args:
            items: item identifiers. Unknown ones are left out, with a warning.
            k: number of similar items.
            by: "model" (cosine of the vectors with which items enter the model), "text" (cosine of the text
                embeddings that the semantic IDs were made from) or "sids" (number of equal digits, of equally
                many the earlier ones).

        Returns:
            A row for each pair: item_id, rank (from 1), similar_id, title, score.

        Raises:
            UserError: the run has no text embeddings or no semantic IDs, or `by` is unknown.
        """
        from pipelines.recommend.similar import similar_items

        numbers = self.table.known(items, "items")
        found, scores = similar_items(self._vectors(by), numbers, k)
        names, width = self.table.names, found.shape[1]
        return pl.DataFrame(
            {
                "item_id": names["item_id"].gather(np.repeat(numbers, width)),
                "rank": pl.Series(np.tile(np.arange(1, width + 1), len(numbers)), dtype=pl.Int32),
                "similar_id": names["item_id"].gather(found.ravel()),
                "title": names["title"].gather(found.ravel()),
                "score": pl.Series(scores.ravel(), dtype=pl.Float32),
            }
        )

    def find(
        self, query: Query, histories: Sequences, users: np.ndarray | None = None, *, fewest: int = 1
    ) -> Found:
        """Recommend items to histories, by number.

        Args:
            query: settings.
            histories: item numbers.
            users: number of each history's user, int [B], which seeds what is random; None for the position.
            fewest: number of histories below which those of one length are decoded together with shorter
                ones: faster for few histories, and equal apart from rounding.
        """
        B, K, horizon = len(histories), query.k, self.trained.horizon
        users = np.arange(B, dtype=np.int32) if users is None else users.astype(np.int32)
        by_model = histories.lengths > 0
        result = Found(np.full((B, K, horizon), -1), np.full((B, K), -np.inf, np.float32), by_model)
        if by_model.any():
            offsets = np.unique(histories.offsets)  # those of the histories that are not empty
            targets = np.zeros((len(offsets) - 1, horizon), np.int32)
            split = Split(histories.items, offsets, users[by_model], targets, self._warm_items)
            items, scores = self._chosen(self._decode(split, query, fewest), query)
            result.items[by_model], result.scores[by_model] = items[:, :K], scores[:, :K]
        if not by_model.all():
            best, counts = self.popularity.best(K, query.qualifying)
            result.items[~by_model, : len(best)] = best[:, None]
            result.scores[~by_model, : len(best)] = counts
        return result

    def _chosen(self, found: Recommendations, query: Query) -> tuple[np.ndarray, np.ndarray]:
        """Return items [B, K, k] and scores [B, K] of what was found, diverse ones if the query says so."""
        if not query.diversity:
            return found.items, found.scores
        vectors = self._vectors("model")
        places = most_marginal(found.scores, found.items[:, :, 0], vectors, query.diversity, query.k)
        return (
            np.take_along_axis(found.items, places[:, :, None], 1),
            np.take_along_axis(found.scores, places, 1),
        )

    def _vectors(self, by: str) -> Tensor:
        """Return what items are compared by, see `similar.compared`; computed once."""
        from pipelines.recommend.similar import compared

        if by not in self._compared:
            self._compared[by] = compared(self.trained, by)
        return self._compared[by]

    def _decode(self, split: Split, query: Query, fewest: int) -> Recommendations:
        model, device = self.trained.model, next(self.trained.model.parameters()).device
        index = self._index(query.decoding, query.qualifying) if isinstance(model, DigitModel) else None
        with autocast("auto", device):
            return recommend(
                model, split, index, query.decoding, Silent(), items=query.qualifying, fewest=fewest
            )

    @cached_property
    def _warm_items(self) -> np.ndarray | None:
        """Items with a training interaction, where the model ranks the others apart."""
        if not self.trained.model.ranks_cold_items:
            return None
        if self._counts is not None:
            return self._counts.warm
        if self.run.is_final:
            return np.flatnonzero(self.popularity.counts)
        return np.flatnonzero(self.trained.training_counts(self.stored, Processes()))

    def _index(self, decoding: Decoding, qualifying: np.ndarray | None) -> SidIndex:
        """Return the index of the items that qualify for the partial SIDs that a decoding can reach."""
        sids = self.trained.catalogue.require_sids()
        subsets = decoding.reachable(sids.shape[1])
        key = (str(subsets), None if qualifying is None else qualifying.tobytes())
        if key not in self._indices:
            if len(self._indices) >= INDICES:
                self._indices.pop(next(iter(self._indices)))
            self._indices[key] = build_index(sids, self.trained.catalogue.codes, subsets, qualifying)
        return self._indices[key]
