"""The denoiser: the contract between a model over semantic IDs and the search that decodes with it.

Shapes: B users, K beams, k items predicted together, H digits per item, S = k·H digits, V codes per digit, N
items, Q pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from typing_extensions import Self


ITEMS = 1 << 18  # items whose digits are looked up at once


class Agreeing(NamedTuple):
    """Pairs of a row of B·K·k beams' items and a catalogue item that agrees with the row's unmasked digits.

    Attributes:
        rows: int64 [Q].
        items: int64 [Q].
        probabilities: float32 [Q]; those of a row sum to 1.
    """

    rows: Tensor
    items: Tensor
    probabilities: Tensor


class ItemScores(NamedTuple):
    """Scores of the items of the catalogue in one function evaluation, computed for some items at a time.

    Attributes:
        of: function from a slice of the items, or their numbers, int64 [items], to their scores, float32
            [B, items].
        are_logits: if true, the scores are the logits of a softmax over the whole catalogue; else they are
            log-probabilities.
    """

    of: Callable[[slice | Tensor], Tensor]
    are_logits: bool

    def log_probs(self) -> Tensor:
        """Return the log-probabilities of all items at once, float32 [B, N]."""
        scores = self.of(slice(None))
        return scores.log_softmax(1) if self.are_logits else scores


class Denoiser(Protocol):
    """A model conditioned on the histories of B users, as decoding calls it.

    Codes are int64 [B, K, S], V where a digit is masked. Log-probabilities are float32 [B, K, S, V]; at
    unmasked digits their values have no meaning."""

    def __call__(self, codes: Tensor) -> Tensor:
        """Run one function evaluation: codes [B, K, S] → log-probabilities [B, K, S, V]."""
        ...

    def refine(self, codes: Tensor, origin: Tensor) -> Tensor:
        """Return the log-probabilities of the last function evaluation, given digits unmasked since then.

        Args:
            codes: int64 [B, K', S].
            origin: int64 [B, K'], the beam of the last function evaluation that each beam descends from.

        Returns:
            float32 [B, K', S, V].
        """
        ...

    def agreeing(self, codes: Tensor) -> Agreeing | None:
        """Return the distribution over items of the last function evaluation; None where digits are
        independent.

        Args:
            codes: int64 [B, K, S], those of the last function evaluation.
        """
        ...

    def score_items(self, codes: Tensor, sids: Tensor) -> ItemScores:
        """Run one function evaluation that scores items (k = 1).

        Args:
            codes: int64 [B, 1, H], all masked.
            sids: semantic IDs of the catalogue, int64 [N, H].
        """
        ...

    def guided(self, unconditional: Self, weight: float) -> Denoiser:
        """Return the denoiser of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598).

        It computes p(code | history)^(1 + w) / p(code)^w, normalized, as Schiff et al. 2024 (arXiv
        2412.10193, equation 8) do for discrete diffusion.

        Args:
            unconditional: the same model, conditioned on empty histories.
            weight: w.
        """
        ...


class IndependentDigits:
    """Denoiser of a model whose masked digits are independent of each other given the visible ones, as in the
    paper.
    """

    def __init__(self, log_probs: Callable[[Tensor], Tensor]) -> None:
        """
        Args:
            log_probs: the model: codes [B, K, S] → log-probabilities [B, K, S, V].
        """
        self._log_probs = log_probs
        self._last: Tensor | None = None  # log-probabilities of the last function evaluation

    def __call__(self, codes: Tensor) -> Tensor:
        self._last = self._log_probs(codes)
        return self._last

    def refine(self, codes: Tensor, origin: Tensor) -> Tensor:
        assert self._last is not None, "no function evaluation to refine"
        return self._last.gather(1, origin[..., None, None].expand(-1, -1, *self._last.shape[2:]))

    def agreeing(self, codes: Tensor) -> Agreeing | None:
        return None

    def score_items(self, codes: Tensor, sids: Tensor) -> ItemScores:
        table = self(codes).flatten(1).T.contiguous()  # [H·V, B]
        return ItemScores(lambda items: digit_sums(table, sids[items]).T, are_logits=False)

    def guided(self, unconditional: IndependentDigits, weight: float) -> IndependentDigits:
        def log_probs(codes: Tensor) -> Tensor:
            return ((1 + weight) * self(codes) - weight * unconditional(codes)).log_softmax(-1)

        return IndependentDigits(log_probs)


def digit_sums(table: Tensor, sids: Tensor) -> Tensor:
    """Sum the values of items' digits, for all rows at once.

    Scores that add up over digits need no vector of the item: this is the scoring of RecJPQ and PQTopK
    (Petrov, Macdonald and Tonellotto 2024, arXiv 2408.09992).

    Args:
        table: value of each code of each digit for each of R rows, float32 [H·V, R].
        sids: semantic IDs of items, int64 [items, H].

    Returns:
        float32 [items, R].
    """
    H = sids.shape[1]
    offsets = torch.arange(H, device=sids.device) * (len(table) // H)
    if not torch.compiler.is_exporting():
        total = table.new_empty(len(sids), table.shape[1])
        for part, sums in zip(sids.split(ITEMS), total.split(ITEMS), strict=True):
            sums.copy_(F.embedding_bag(part + offsets, table, mode="sum"))
        return total
    tokens = sids + offsets  # in an exported graph, an embedding bag is a loop over items
    total = table.index_select(0, tokens[:, 0])
    for h in range(1, H):
        total = total + table.index_select(0, tokens[:, h])
    return total


class DenseRetriever(Protocol):
    """A model that predicts the text embedding of the next item (paper, section 3.3).

    Attributes:
        text: text embeddings of the catalogue, float32 [N, E]; zero for an item without text.
    """

    @property
    def text(self) -> Tensor: ...

    def dense_query(self, history: Tensor, users: Tensor) -> Tensor:
        """Predict the next item's text embedding.

        Args:
            history: int64 [B, n], −1 at padding.
            users: int64 [B].

        Returns:
            float32 [B, E], to be multiplied with `text`.
        """
        ...
