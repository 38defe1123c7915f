"""Reference implementation of MaskGR, written plainly, without the optimizations of maskgr.

Every history is padded to `items` × H tokens. Attention computes its [B, A, L, L] scores. Logits are computed
at all positions over the whole vocabulary. Beam search runs one forward pass per beam, in sequence. The
model, the objective and the search are those of the paper (arXiv 2511.23021, section 3 and appendix A.1), so
that a ratio to this file measures the implementation and nothing else.

Shapes: B users, K beams, n items of a history, A heads, L tokens, H digits per item, V codes per digit, D
width."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Order = Literal["left-to-right", "greedy"]
SMALLEST_NOISE = 1e-3


class Attention(nn.Module):
    """Bidirectional attention with rotary positions, without a fused kernel."""

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, heads: int, length: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        frequencies = 10_000.0 ** (-torch.arange(0, self.size, 2) / self.size)
        angles = torch.outer(torch.arange(length), frequencies)  # [L, D/A/2]
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        users, length, width = x.shape
        qkv = self.qkv(x).view(users, length, 3, self.heads, self.size)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, A, L, D/A] each
        scores = self.rotate(q) @ self.rotate(k).transpose(-2, -1) / math.sqrt(self.size)  # [B, A, L, L]
        weights = self.dropout(torch.softmax(scores + mask, dim=-1))
        return self.out((weights @ v).transpose(1, 2).reshape(users, length, width))

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate each pair of features (first half, second half) by the angle of its position."""
        cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Block(nn.Module):
    """Pre-norm encoder layer."""

    def __init__(self, width: int, heads: int, mlp: int, length: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, length, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), mask))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class ReferenceModel(nn.Module):
    """An encoder over H·V + 2 tokens: digit h's code c is token h·V + c, then MASK, then PAD.

    Args:
        digits: H.
        codes: V.
        items: number of items that every sequence is padded to; L = items × H.
        width: D.
        layers: number of layers.
        heads: A.
        mlp: width of the hidden layer of an MLP.
        dropout: dropout rate.

    The defaults are the sizes of the paper.
    """

    def __init__(
        self,
        digits: int = 5,
        codes: int = 256,
        items: int = 24,
        width: int = 128,
        layers: int = 8,
        heads: int = 8,
        mlp: int = 3072,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.digits, self.codes, self.items = digits, codes, items
        self.mask_token, self.pad_token = digits * codes, digits * codes + 1
        self.embedding = nn.Embedding(digits * codes + 2, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, mlp, items * digits, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, digits * codes + 2)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute logits: tokens [B, L] → [B, L, H·V + 2]. PAD tokens are not attended to."""
        mask = torch.zeros(tokens.shape, device=tokens.device).masked_fill(
            tokens == self.pad_token, torch.finfo(torch.float32).min
        )
        x = self.dropout(self.embedding(tokens))  # [B, L, D]
        for block in self.blocks:
            x = block(x, mask[:, None, None, :])
        return self.head(self.norm(x))

    def tokens(self, sids: Tensor) -> Tensor:
        """Return the tokens of semantic IDs, with PAD for −1.

        Args:
            sids: int64 [B, n, H], each user's items first and −1 after them.

        Returns:
            int64 [B, n·H], where n·H ≤ L.
        """
        offsets = torch.arange(self.digits, device=sids.device) * self.codes
        return torch.where(sids < 0, self.pad_token, sids + offsets).flatten(1)

    def padded(self, sids: Tensor, items: int) -> Tensor:
        """Return each user's last items, padded at the end with −1: [B, n, H] → [B, items, H]."""
        lengths = (sids[:, :, 0] >= 0).sum(1)  # [B]
        first = (lengths - items).clamp(min=0)[:, None]
        positions = torch.arange(items, device=sids.device) + first  # [B, items]
        sids = functional.pad(sids, (0, 0, 0, max(items - sids.shape[1], 0)), value=-1)
        return sids.gather(1, positions[:, :, None].expand(-1, -1, self.digits))


def reference_training_step(model: ReferenceModel, optimizer: torch.optim.Optimizer, sids: Tensor) -> float:
    """Do one optimizer step of masked diffusion (equation 3 up to its normalizer).

    Each user has a masking rate t ~ U(0, 1]. Each real token is masked with probability t, and a masked token
    has the weight 1/t.

    Args:
        model: the model.
        optimizer: optimizer of its parameters.
        sids: int64 [B, n, H], each user's items first and −1 after them; the last `model.items` are used.

    Returns:
        The loss: Σ cross-entropy/t over masked tokens ÷ Σ 1/t.
    """
    model.train()
    clean = model.tokens(model.padded(sids, model.items))  # [B, L]
    noise = (1 - torch.rand(len(clean), 1, device=clean.device)).clamp(min=SMALLEST_NOISE)  # [B, 1]
    masked = (torch.rand(clean.shape, device=clean.device) < noise) & (clean != model.pad_token)
    logits = model(clean.masked_fill(masked, model.mask_token))  # [B, L, H·V + 2]
    losses = functional.cross_entropy(logits.flatten(0, 1), clean.flatten(), reduction="none").view_as(clean)
    weights = masked / noise
    loss = (losses * weights).sum() / weights.sum().clamp(min=1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def reference_beam_search(
    model: ReferenceModel, histories: Tensor, beams: int, order: Order = "greedy"
) -> tuple[Tensor, Tensor]:
    """Return the most probable next items of each user that the search finds, without a constraint on codes.

    H masks follow each history. Every step unmasks one digit of every beam: the first masked digit, or the
    digit whose two most likely codes differ most in probability (greedy). There is one forward pass over all
    users per beam, in sequence: 1 + (H − 1)·K forward passes if V ≥ K.

    Args:
        model: the model.
        histories: int64 [B, n, H], each user's items first and −1 after them; the last `model.items` − 1
            items are used.
        beams: K.
        order: order of unmasking.

    Returns:
        Codes [B, K, H] and their log-probabilities [B, K], best first; fewer than K if V^H < K.
    """
    model.eval()
    users, digits = len(histories), torch.arange(model.digits, device=histories.device)
    history = model.padded(histories, model.items - 1)
    lengths = (history[:, :, 0] >= 0).sum(1, keepdim=True)  # [B, 1]
    positions = lengths * model.digits + digits  # [B, H], of the masks
    sequences = functional.pad(model.tokens(history), (0, model.digits), value=model.pad_token)  # [B, L]
    codes = histories.new_full((users, 1, model.digits), -1)  # −1: masked
    scores = torch.zeros(users, 1, device=histories.device)
    for _ in range(model.digits):
        unmasked, candidates = [], []
        for beam in codes.unbind(1):  # one forward pass per beam
            logp = digit_log_probabilities(model, sequences, positions, beam)  # [B, H, V]
            unmasked.append(next_digit(logp, beam, order))
            candidates.append(logp[torch.arange(users), unmasked[-1]])
        totals = scores[:, :, None] + torch.stack(candidates, 1)  # [B, K, V]
        scores, best = totals.flatten(1).topk(min(beams, totals[0].numel()))  # [B, K]
        parents, chosen = best // model.codes, best % model.codes
        digit = torch.stack(unmasked, 1).gather(1, parents)
        codes = codes.gather(1, parents[:, :, None].expand(-1, -1, model.digits))
        codes = codes.scatter(2, digit[:, :, None], chosen[:, :, None])
    return codes, scores


def digit_log_probabilities(
    model: ReferenceModel, sequences: Tensor, positions: Tensor, codes: Tensor
) -> Tensor:
    """Compute the log-probabilities of each digit's codes, given the visible digits.

    Args:
        model: the model.
        sequences: tokens of the histories, int64 [B, L].
        positions: positions of the target's digits, int64 [B, H].
        codes: codes of the target, int64 [B, H]; −1 where masked.

    Returns:
        float32 [B, H, V].
    """
    offsets = torch.arange(model.digits, device=codes.device) * model.codes
    target = torch.where(codes < 0, model.mask_token, codes + offsets)
    logits = model(sequences.scatter(1, positions, target))  # [B, L, H·V + 2]
    rows = positions[:, :, None].expand(-1, -1, logits.shape[-1])
    at_digits = logits.log_softmax(-1).gather(1, rows)  # [B, H, H·V + 2]
    by_digit = at_digits[:, :, : model.mask_token].unflatten(2, (model.digits, model.codes))  # [B, H, H, V]
    return by_digit.diagonal(dim1=1, dim2=2).transpose(1, 2)


def next_digit(logp: Tensor, codes: Tensor, order: Order) -> Tensor:
    """Return the digit to unmask next, int64 [B].

    Args:
        logp: log-probabilities, float32 [B, H, V].
        codes: int64 [B, H], −1 where masked.
        order: order of unmasking.
    """
    masked = codes < 0
    if order == "left-to-right":
        return masked.int().argmax(1)
    first, second = logp.exp().topk(2, dim=-1).values.unbind(-1)  # [B, H] each
    return (first - second).masked_fill(~masked, -1).argmax(1)
