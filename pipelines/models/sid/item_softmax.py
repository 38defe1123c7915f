"""The digits of an item taken together: a distribution over the items that agree with what is revealed.

The paper's denoiser takes masked digits as independent, each a softmax over its V codes, so that most of its probability lies on
semantic IDs that no item has, and what ties an item's digits together must be learnt by the network. Here a state z gives every
item i the energy z · w_i, and the items that agree with the revealed digits share all probability:

    p(i | z, revealed) = exp(z · w_i) / Σ_j exp(z · w_j), over the items j that agree.

w_i is the sum of the item's digit embeddings, so that an energy is a sum of digit logits, plus what else the item brings. A masked
digit's probabilities are sums over items, in any order: with nothing revealed they are those of a softmax over the catalogue.

Shapes: B users, K beams, S digits in all, H digits an item, k items, V codes, N items, D width, R states, Q pairs of state and item.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.data.candidates import CandidateIndex
from pipelines.models.nn.packing import to_device
from pipelines.models.nn.precision import in_float32
from pipelines.models.objectives.losses import sampled_loss, softmax_loss
from pipelines.models.objectives.repeat_bias import Held, with_repeats

PAIRS = 1 << 16  # energies computed at once, where they are computed one by one
DENSE = 16  # a matrix product over all items pays where one in so many agrees


def item_softmax_loss(
    states: Tensor,
    vectors: Tensor,
    sids: Tensor,
    items: Tensor,
    masked: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    held: Held | None = None,
) -> Tensor:
    """Weighted sum of −log p(item | state, revealed digits). Compares every state with every item.

    Args:
        states: [R, D].
        vectors: w, [N, D].
        sids: [N, H].
        items: int64 [R], the true ones.
        masked: bool [R, H], on the host; the other digits of the true item are revealed.
        weights: [R].
        smoothing: share of a fully masked item's target that is spread over all items (Szegedy et al. 2016). Changes what is
            estimated, towards an even distribution.
        held: what the states' histories hold.
    """
    whole = masked.all(1)
    rows = whole.nonzero().squeeze(1)
    part = to_device(rows, states.device)
    loss = softmax_loss(states[part], vectors, items[part], weights[part], smoothing, held and held.of(part))
    rows = (~whole).nonzero().squeeze(1)
    part = to_device(rows, states.device)
    logits = with_repeats((states[part] @ vectors.T).float(), held and held.of(part))  # [R', N]
    logits.masked_fill_(~agree(sids, sids[items[part]], to_device(masked[rows], states.device)), -torch.inf)
    return loss + F.cross_entropy(logits, items[part], reduction="none") @ weights[part]


def sampled_item_softmax_loss(
    states: Tensor,
    vectors: Callable[[Tensor], Tensor],
    candidates: CandidateIndex,
    items: Tensor,
    masked: Tensor,
    weights: Tensor,
    negatives: int,
    smoothing: float = 0.0,
) -> Tensor:
    """`item_softmax_loss` for catalogues that are too large to compare every state with every item.

    Fully masked items are compared with `negatives` items drawn evenly (`losses.sampled_loss`). Partly masked items are compared with
    all that agree, which are few; how many they are must be known to the host, which waits for a GPU here.

    Args:
        states: [R, D].
        vectors: w of items [Q] → [Q, D].
        members: of the catalogue.
        items: int64 [R], the true ones.
        masked: bool [R, H], on the host.
        weights: [R].
        negatives: how many are drawn.
        smoothing: as in `item_softmax_loss`; the mean over all items is estimated by that over the drawn ones.
    """
    whole = masked.all(1)
    part = to_device(whole.nonzero().squeeze(1), states.device)
    loss = sampled_loss(
        states[part], vectors, len(candidates.sids), items[part], weights[part], negatives, smoothing
    )
    rows = (~whole).nonzero().squeeze(1)
    if len(rows):
        part = to_device(rows, states.device)
        own = (states[part] * vectors(items[part])).sum(1).float()  # [R'], the true items' energies
        codes = torch.where(
            to_device(masked[rows], states.device), candidates.codes, candidates.sids[items[part]]
        )
        row, item = candidates.pairs(codes)  # [Q]
        logit = (states[part][row] * vectors(item)).sum(1).float()
        largest = (
            logit.detach().new_full((len(part),), -torch.inf).scatter_reduce_(0, row, logit.detach(), "amax")
        )
        total = torch.zeros_like(largest).index_add(0, row, (logit - largest[row]).exp())
        loss = loss + (total.log() + largest - own) @ weights[part]
    return loss


def agree(sids: Tensor, revealed: Tensor, masked: Tensor) -> Tensor:
    """Which of the items [N, H] have the codes `revealed` [R, H] where these are not `masked` [R, H]: bool [R, N]."""
    same = torch.ones((len(revealed), len(sids)), dtype=torch.bool, device=sids.device)
    for column, code, hidden in zip(sids.T.contiguous(), revealed.T, masked.T, strict=True):
        same &= hidden[:, None] | (code[:, None] == column)
    return same


class ItemSoftmax:
    """What a model with joint digits expects: codes [B, K, S], V where masked, → log-probabilities [B, K, S, V] of each masked digit.

    −inf where no item agrees, and 0 at the digits of a partial SID that no item has. Items that come at the same time (k > 1) are
    independent of each other given what is visible.
    """

    def __init__(
        self,
        states: Callable[[Tensor], Tensor],
        vectors: Tensor,
        candidates: CandidateIndex,
        held: Held | None = None,
    ) -> None:
        """
        Args:
            states: the model: codes [B, K, S] → states [B, K, k, D].
            vectors: w, float32 [N, D].
            members: of the catalogue.
            held: what the users' histories hold, of B states.
        """
        self.states, self.vectors, self.candidates = states, vectors, candidates
        self.shift = held and held.added(vectors.new_zeros(len(held.items), len(vectors)))  # [B, N]
        self._last: Tensor | None = None

    def __call__(self, codes: Tensor) -> Tensor:
        """Ask the model."""
        self._last = self.states(codes).float()
        return self._marginals(self._last, codes)

    def again(self, codes: Tensor, origin: Tensor) -> Tensor:
        """What was expected when the model was last asked, given further digits.

        Args:
            codes: [B, K', S].
            origin: [B, K'], which of the beams of that time each of these comes from.
        """
        assert self._last is not None
        states = self._last.gather(1, origin[:, :, None, None].expand(-1, -1, *self._last.shape[2:]))
        return self._marginals(states, codes)

    def agreeing(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The items that agree with the codes [B, K, S] of which the model was last asked, and their probabilities.

        Returns:
            int64 [Q] rows of B·K·k, sorted within each, int64 [Q] items, float32 [Q].
        """
        assert self._last is not None
        row, item, share, _ = self._shares(
            self._last.flatten(0, 2), codes.reshape(-1, self.candidates.sids.shape[1])
        )
        return row, item, share

    def items(self, codes: Tensor) -> Tensor:
        """Log-probabilities [B, N] of every item, with nothing revealed in `codes` [B, 1, H]."""
        logits = self._logits(self.states(codes).float().flatten(0, 2))
        return (logits if self.shift is None else logits + self.shift).log_softmax(-1)

    def _logits(self, states: Tensor) -> Tensor:
        """[R, D] → float32 [R, N]."""
        with in_float32(states.device):
            return states @ self.vectors.T

    def _marginals(self, states: Tensor, codes: Tensor) -> Tensor:
        """Sums over the items that agree: states [B, K, k, D] and codes [B, K, S] → log-probabilities [B, K, S, V]."""
        H, V, shape = self.candidates.sids.shape[1], self.candidates.codes, codes.shape
        row, item, share, empty = self._shares(states.flatten(0, 2), codes.reshape(-1, H))
        R = len(empty)
        place = self.candidates.columns[item] + (row * (H * V))[:, None]  # [Q, H]
        mass = share.new_zeros(R * H * V).index_add_(
            0, place.flatten(), share[:, None].expand(-1, H).flatten()
        )
        none = mass == 0  # most of them, and the logarithm of 0 is five times as slow as others on a CPU
        logp = mass.masked_fill_(none, 1.0).log_().masked_fill_(none, -torch.inf).view(R, H, V)
        logp[empty] = 0.0
        return logp.view(*shape, V)

    def _shares(self, states: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pairs of a state [R, D] and an item that agrees with its codes [R, H]: rows, items, probabilities; and which states have none."""
        R = len(codes)
        row, item = self.candidates.pairs(codes)  # [Q]
        logit = self._logits_of(states, row, item)
        if self.shift is not None:
            logit += self.shift[row // (R // len(self.shift)), item]
        largest = logit.new_full((R,), -torch.inf).scatter_reduce_(0, row, logit, "amax")
        share = (logit - largest[row]).exp_()
        share /= share.new_zeros(R).index_add_(0, row, share)[row]
        return row, item, share, largest == -torch.inf

    def _logits_of(self, states: Tensor, row: Tensor, item: Tensor) -> Tensor:
        """The energies [Q] of pairs of state and item: from those of all items for states that many agree with, else one by one."""
        pairs = torch.bincount(row, minlength=len(states))
        many = pairs * DENSE > len(self.vectors)
        if bool(many.all()):
            return self._logits(states)[row, item]
        logits = self._logits(states[many]).flatten()  # [R'·N]
        place = (many.cumsum(0) - 1) * len(self.vectors)  # of a state's first energy
        found, apart = states.new_empty(len(row)), many[row]
        found[apart] = logits[(place[row] + item)[apart]]
        few = (~apart).nonzero().squeeze(1).split(PAIRS)
        for part in few:
            found[part] = (states[row[part]] * self.vectors[item[part]]).sum(1)
        return found


Denoiser = Callable[[Tensor], Tensor] | ItemSoftmax  # codes [B, K, S], V where masked → float32 [B, K, S, V]
