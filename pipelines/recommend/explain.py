"""Explanations of recommendations: which digit was revealed when and how surely, the words of its code, and
the items of the history that share it.

Shapes: K items, H digits, V codes per digit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
import torch

from pipelines.decode.beam import next_digits, random_order
from pipelines.decode.config import CONFIDENCE, Decoding
from pipelines.errors import UserError
from pipelines.models.base import DigitModel
from pipelines.recommend.histories import Histories
from pipelines.recommend.model import Found, Model
from pipelines.recommend.words import CodeWords, content_digits


@dataclass(frozen=True, eq=False)
class Steps:
    """How the digits of K items are revealed.

    Attributes:
        evaluations: number of the function evaluation that reveals each digit, from 1, int64 [K, H].
        probabilities: probability of the item's code at this evaluation, float32 [K, H].
    """

    evaluations: np.ndarray
    probabilities: np.ndarray


@torch.inference_mode()
def reveal(model: DigitModel, history: np.ndarray, sids: np.ndarray, decoding: Decoding, user: int) -> Steps:
    """Follow the search along the paths of items: which digits each function evaluation reveals.

    In the order "confidence", where the digits of all beams compete, the surest digits of the item itself
    come first.

    Args:
        model: in evaluation mode.
        history: item numbers, int [n].
        sids: semantic IDs of the items, int64 [K, H].
        decoding: resolved for the model.
        user: number of the user, which seeds the random order.
    """
    device = next(model.parameters()).device
    truth = torch.as_tensor(sids, device=device)[None]  # [1, K, H]
    users = torch.tensor([user], device=device)
    seen = torch.as_tensor(history[-model.config.max_items :].astype(np.int64), device=device)[None]
    denoiser = model.denoiser(seen, users, approximate=decoding.approximate)
    H = truth.shape[2]
    partial = torch.full_like(truth, model.codes)
    evaluations = torch.zeros_like(truth)
    probabilities = torch.zeros(truth.shape, device=device)
    order = random_order(users, H, decoding.seed) if decoding.order == "random" else None
    for number, count in enumerate(decoding.unmask_schedule(H), start=1):
        logp = denoiser(partial)  # [1, K, H, V]
        own = logp.gather(3, truth[..., None]).squeeze(3)  # [1, K, H]
        masked = partial == model.codes
        if decoding.order == CONFIDENCE:
            surest = own.masked_fill(~masked, -torch.inf).sort(dim=2, descending=True, stable=True).indices
            digits = surest[..., :count]
        else:
            digits = next_digits(logp, masked, decoding.order, order)[..., :count]
        partial = partial.scatter(2, digits, truth.gather(2, digits))
        evaluations = evaluations.scatter(2, digits, number)
        probabilities = probabilities.scatter(2, digits, own.gather(2, digits).exp())
    return Steps(evaluations[0].cpu().numpy(), probabilities[0].cpu().numpy())


def explanations(model: Model, decoding: Decoding, histories: Histories, found: Found) -> pl.DataFrame:
    """Explain the recommendations of a model.

    Returns:
        A row for each history and item: the name of the history, item_id, and explanation, a list of the rows
        of `Explainer.explain`.

    Raises:
        UserError: the model has no digits to reveal.
    """
    explainer, names = Explainer(model), histories.names
    nobody = pl.DataFrame([], schema={**Explainer.SCHEMA, names.name: names.dtype})
    tables = [nobody]
    for place in np.flatnonzero(found.by_model).tolist():
        items = found.items[place].ravel()
        user = int(histories.users[place]) if histories.users is not None else place
        table = explainer.explain(histories.of(place), items[items >= 0], decoding, user)
        tables.append(table.with_columns(pl.lit(names[place], names.dtype).alias(names.name)))
    digits = pl.struct("evaluation", "digit", "code", "probability", "words", "shared")
    together = pl.concat(tables).group_by(names.name, "item_id", maintain_order=True)
    return together.agg(digits.alias("explanation"))


class Explainer:
    """Explains recommendations of one model.

    Attributes:
        content_digits: number of digits that tell something of an item; the others only tell equal items
            apart.
    """

    SCHEMA: ClassVar[dict[str, pl.DataType]] = {
        "item_id": pl.String(),
        **dict.fromkeys(("evaluation", "digit", "code"), pl.Int32()),
        "probability": pl.Float32(),
        **dict.fromkeys(("words", "shared"), pl.List(pl.String())),
    }

    def __init__(self, model: Model) -> None:
        """
        Raises:
            UserError: the model has no digits to reveal.
        """
        digits = model.trained.model
        if not isinstance(digits, DigitModel):
            raise UserError(
                f"--explain needs a model that reveals digits of semantic IDs; {model.run.name} is a run of "
                f"--model {digits.config.name}."
            )
        self._model, self._digits = model, digits
        self._sids = model.trained.catalogue.require_sids()
        self.content_digits = content_digits(model.trained.inputs.get("sids"), self._sids.shape[1])
        self._words = CodeWords(model.table.names["title"], self._sids, self.content_digits)
        self._words_of: dict[tuple[int, int], list[str]] = {}  # digit and code → words

    def explain(
        self, history: np.ndarray, items: np.ndarray, decoding: Decoding, user: int = 0
    ) -> pl.DataFrame:
        """Explain recommended items.

        Args:
            history: item numbers, int [n]; not empty.
            items: recommended items, int64 [K].
            decoding: resolved for the model.
            user: number of the user.

        Returns:
            A row for each item and digit, in the order in which they are revealed: item_id, evaluation (from
            1), digit (from 1), code, probability, words (of the code, most typical first), shared
            (identifiers of history items with the same code).
        """
        steps = reveal(self._digits, history, self._sids[items], decoding, user)
        names = self._model.table.names["item_id"]
        past = np.unique(history)
        rows = []
        for place, item in enumerate(items):
            for digit in np.lexsort((np.arange(self._sids.shape[1]), steps.evaluations[place])):
                code = int(self._sids[item, digit])
                shared = past[self._sids[past, digit] == code] if digit < self.content_digits else past[:0]
                rows.append(
                    {
                        "item_id": names[int(item)],
                        "evaluation": int(steps.evaluations[place, digit]),
                        "digit": int(digit) + 1,
                        "code": code,
                        "probability": float(steps.probabilities[place, digit]),
                        "words": self.words(int(digit), code),
                        "shared": names.gather(shared).to_list(),
                    }
                )
        return pl.DataFrame(rows, schema=self.SCHEMA)

    def words(self, digit: int, code: int) -> list[str]:
        """Return the words that are most typical of the items with a code, see `CodeWords.of_code`."""
        if (digit, code) not in self._words_of:
            self._words_of[digit, code] = self._words.of_code(digit, code)
        return self._words_of[digit, code]
