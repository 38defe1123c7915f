"""Tokens of semantic IDs; digit embeddings that start from texts, which are the centroids of residual k-means
up to a rotation.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.models import loading
from pipelines.models.sid.embedding import SidEmbedding, digit_centroids
from pipelines.models.sid_models.config import MaskGRConfig

SIDS = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [2, 0, 0]])
TEXT = np.array([[1.0, 0, 0, 0], [3, 0, 0, 0], [5, 0, 0, 0], [-9, 0, 0, 0]], np.float32)


def token_by_hand(digit: int, code: int, digits: int, codes: int) -> int:
    """Return the token of a code (V for MASK) by counting: the codes of digit 0, of digit 1, …, then the
    MASKs.
    """
    counted = [(h, c) for h in range(digits) for c in range(codes)] + [(h, codes) for h in range(digits)]
    return counted.index((digit, code))


@pytest.mark.parametrize(("digits", "codes"), [(1, 4), (3, 5), (4, 1)])
def test_tokens_as_counted_by_hand(digits: int, codes: int) -> None:
    embedding = SidEmbedding(np.zeros((1, digits), np.int64), codes, 2, masks=True, specials=3)
    every = torch.tensor(list(itertools.product(range(codes + 1), repeat=digits)))  # [(V + 1)^H, H]
    expected = [[token_by_hand(h, c, digits, codes) for h, c in enumerate(sid)] for sid in every.tolist()]
    assert embedding.tokens(every).tolist() == expected
    assert embedding.tokens(every.view(1, -1, 1, digits)).flatten(0, 2).tolist() == expected
    assert embedding.first_special == digits * (codes + 1)
    assert embedding.num_embeddings == digits * (codes + 1) + 3


@pytest.mark.parametrize("masks", [False, True])
def test_a_code_of_a_digit_is_no_other_token(masks: bool) -> None:
    """No token belongs to two digits, or to a digit and to MASK or a special token; no token is left over."""
    H, V, specials = 3, 4, 2
    embedding = SidEmbedding(np.zeros((1, H), np.int64), V, 2, masks=masks, specials=specials)
    of_digits = [embedding.tokens(torch.arange(V)[:, None].expand(V, H))[:, h].tolist() for h in range(H)]
    special = [embedding.first_special + i for i in range(specials)]
    groups = [*map(set, of_digits), set(embedding.mask_tokens.tolist()), set(special)]
    assert [len(group) for group in groups] == [V] * H + [H * masks, specials]
    assert all(not a & b for a, b in itertools.combinations(groups, 2))
    assert sorted(set().union(*groups)) == [*range(embedding.num_embeddings)]


def test_tokens_of_items_and_of_padding() -> None:
    """Item −1 has the token of padding; without such a token it has the last item's tokens."""
    embedding = SidEmbedding(SIDS, 3, 2, masks=True, specials=1)
    items = torch.tensor([[2, -1], [0, 3]])
    by_hand = [[token_by_hand(h, c, 3, 3) for h, c in enumerate(sid)] for sid in SIDS.tolist()]
    assert embedding.item_tokens(items).tolist() == [[by_hand[2], by_hand[3]], [by_hand[0], by_hand[3]]]
    pad = embedding.first_special
    expected = [[by_hand[2], [pad] * 3], [by_hand[0], by_hand[3]]]
    assert embedding.item_tokens(items, pad).tolist() == expected
    torch.testing.assert_close(embedding.item_tokens(items), embedding.tokens(embedding.sids[items]))


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("count", [1, 3])
def test_pooled_embeddings_as_in_plain_python(mode: str, count: int) -> None:
    embedding = SidEmbedding(SIDS, 3, 4, masks=True)
    embedding.initialize()
    tokens = torch.randint(0, embedding.num_embeddings, (2, 5, count))
    table = embedding.weight.tolist()
    pooled = embedding.pooled(tokens, mode)
    assert pooled.shape == (2, 5, 4)
    for row, column in itertools.product(range(2), range(5)):
        vectors = [table[token] for token in tokens[row, column].tolist()]
        total = [sum(values) / (count if mode == "mean" else 1) for values in zip(*vectors, strict=True)]
        assert pooled[row, column].tolist() == pytest.approx(total, abs=1e-6)


def test_centroids_by_hand() -> None:
    """The texts lie on a line, with mean 0 and mean square 29. The first digit's codes are at 3 and −9; the
    residuals are −2, 0, 2 and 0; the second digit's codes are at −1 and 1.
    """
    centroids = digit_centroids(SIDS, 3, TEXT, 2) * np.sqrt(29)
    assert centroids.shape == (2, 3, 2)
    sign = np.sign(centroids[0, 0, 0])  # the direction of an axis is arbitrary
    np.testing.assert_allclose(sign * centroids[0], [[3, 0], [0, 0], [-9, 0]], atol=1e-5)
    np.testing.assert_allclose(sign * centroids[1], [[-1, 0], [1, 0], [0, 0]], atol=1e-5)


@pytest.mark.parametrize("width", [3, 6, 10])
def test_centroids_of_an_items_digits_sum_to_its_text(width: int) -> None:
    """Where each item has its own code no residual remains; the projection keeps dot products as far as it
    has axes.
    """
    rng = np.random.default_rng(0)
    text = rng.normal(size=(8, 6)).astype(np.float32) * [4, 3, 2, 0.01, 0.01, 0.01] + 5
    sids = np.stack((np.arange(8) // 2, np.arange(8) % 2, np.zeros(8, np.int64)), axis=1)
    centroids = digit_centroids(sids, 4, text.astype(np.float32), width)
    items = centroids[0][sids[:, 0]] + centroids[1][sids[:, 1]]
    first = np.stack([text[sids[:, 0] == c].mean(0) for c in sids[:, 0]]) - text.mean(0)
    residuals = text - text.mean(0) - first
    second = np.stack([residuals[sids[:, 1] == c].mean(0) for c in sids[:, 1]])
    expected = (first + second) / np.sqrt(((text - text.mean(0)) ** 2).sum(1).mean())
    np.testing.assert_allclose(items @ items.T, expected @ expected.T, atol=0.01)


def test_centroids_replace_the_first_digit_embeddings_alone() -> None:
    sizes = {"layers": 1, "width": 16, "heads": 2, "mlp": 32, "tokens": "item"}
    models = []
    for centroids in (False, True):
        torch.manual_seed(0)
        catalogue = Catalogue.of(SIDS, 3, TEXT)
        models.append(loading.build(MaskGRConfig(**sizes, centroids=centroids), catalogue))
        models[-1].start(catalogue)
    plain, started = (model.state_dict() for model in models)
    torch.testing.assert_close(
        started["embedding.weight"][:6], torch.as_tensor(digit_centroids(SIDS, 3, TEXT, 16)).flatten(0, 1)
    )
    for name in plain:
        same = slice(6, None) if name == "embedding.weight" else slice(None)
        torch.testing.assert_close(started[name][same], plain[name][same], rtol=0, atol=0)
    assert models[1].config.training_needs == ("sids", "embeddings")


def test_a_trained_model_needs_no_texts_for_its_centroids() -> None:
    """The centroids are in its weights: an evaluation builds the model from the semantic IDs alone."""
    config = MaskGRConfig(layers=1, width=16, heads=2, mlp=32, tokens="item", centroids=True)
    assert config.needs == ("sids",)
    loading.build(config, Catalogue.of(SIDS, 3))
