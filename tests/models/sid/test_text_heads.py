"""Dense and unified retrieval compared with their formulas written out."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipelines.data.catalogue import Catalogue
from pipelines.data.eligible import Eligible
from pipelines.data.splits import Split
from pipelines.decode import beam as decoding_beam
from pipelines.decode.beam import Beams
from pipelines.decode.config import Decoding
from pipelines.decode.dense import dense_search, rerank
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate.recommend import Recommendations, recommend
from pipelines.models import loading
from pipelines.models.nn.packing import Layout
from pipelines.models.sid_models.config import ATTENTION, TOKENS, MaskGRConfig
from pipelines.models.sid_models.maskgr import MaskGR
from tests.conftest import ListProgress
from tests.models.drawn import masked_items

N, H, V, D, E = 30, 3, 8, 16, 10
BARE = 7  # an item without text
SIDS = np.stack(np.unravel_index(np.random.default_rng(0).choice(V**H, N, replace=False), (V,) * H), axis=1)
TEXT = (
    np.random.default_rng(1).normal(size=(N, E)).astype(np.float32)
    * np.linspace(0.1, 5, N, dtype=np.float32)[:, None]
)
TEXT[BARE] = 0
HISTORIES = torch.tensor([[-1, -1, 3, BARE], [5, 2, 9, 4]])
EXACT = {"atol": 2e-6, "rtol": 1e-5}


def build(attention: str = "full", seed: int = 0, **sizes: object) -> MaskGR:
    torch.manual_seed(seed)
    settings = {
        "layers": 3,
        "width": D,
        "heads": 2,
        "mlp": 32,
        "dropout": 0.0,
        "max_items": 6,
        "dense": True,
        "dense_layer": 2,
        **sizes,
    }
    return loading.build(MaskGRConfig(attention=attention, **settings), Catalogue.of(SIDS, V, TEXT)).eval()


@pytest.fixture(params=itertools.product(ATTENTION, TOKENS), ids="-".join)
def model(request: pytest.FixtureRequest) -> MaskGR:
    attention, tokens = request.param
    return build(attention, tokens=tokens)


def by_hand(model: MaskGR, items: list[int], masked: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the states of one sequence after η layers and after the last layer, [n, P, D] each.

    Args:
        model: the model.
        items: the sequence.
        masked: mask of the digits, bool [n, H].
    """
    rows, P = [], model.tokens_per_item
    for item, hidden in zip(items, masked, strict=True):
        digits = [model.embedding.weight[H * V + h if hidden[h] else h * V + SIDS[item, h]] for h in range(H)]
        x = torch.stack(digits).view(P, H // P, D).sum(1)
        if not hidden.any() and TEXT[item].any():
            unit = torch.as_tensor(TEXT[item] / np.linalg.norm(TEXT[item]))
            x = x + (unit @ model.dense.enter).view(P, D)
        if model.encodes_once and hidden.any() and rows:
            x = x + model.attention.previous.weight @ rows[-1].sum(0)
        rows.append(x)
    x, real = torch.cat(rows), torch.ones(1, len(rows) * P, dtype=torch.bool)
    layout, states = Layout.causal(real, P) if model.encodes_once else Layout.bidirectional(real), []
    position = model.encoder._rotary(layout.position, x)
    for block in model.encoder.blocks:
        x = block.transform(block.attend(x, layout, position)[0])
        states.append(x)
    return states[model.config.dense_layer - 1].unflatten(0, (-1, P)), model.encoder.norm(x).unflatten(
        0, (-1, P)
    )


def query_by_hand(model: MaskGR, states: Tensor) -> Tensor:
    """Return g_θ of one item's states [P, D], times the learned sharpness: [E]."""
    dense = model.dense
    normed = torch.cat(
        [torch.nn.functional.layer_norm(state, (D,), dense.norm.weight, dense.norm.bias) for state in states]
    )
    down, up, _, down_again, up_again = dense.leave
    inner = torch.nn.functional.gelu(up.weight @ (down.weight @ normed) + up.bias)
    return (up_again.weight @ (down_again.weight @ inner) + up_again.bias) * dense.sharpness.exp()


def units() -> np.ndarray:
    """Return the text embeddings, scaled to unit length."""
    return TEXT / np.maximum(np.linalg.norm(TEXT, axis=1, keepdims=True), 1e-12)


@pytest.mark.parametrize(("layer", "share"), [(1, 1.0), (3, 1.0), (3, 0.25)])
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("tokens", TOKENS)
def test_the_loss_is_the_formulas_written_out(attention: str, tokens: str, layer: int, share: float) -> None:
    """The loss is equation 3, normalized, plus the mean over fully masked items of −log softmax over all N
    texts, which has a weight of its own.
    """
    model = build(attention, dense_layer=layer, tokens=tokens, whole_item=0.5, dense_loss=share)
    items, weights, fully = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(3))
    digits, dense = 0.0, []
    for sequence, weight, position in masked_items(items, weights):
        item = sequence[position]
        masked = weight > 0
        if model.encodes_once:  # the items before are visible, and the items after are not seen
            masked = np.concatenate((np.zeros((position, H), bool), masked[position : position + 1]))
        middle, last = by_hand(model, sequence[: len(masked)], masked)
        for h in np.flatnonzero(weight[position]):
            logp = (last[position, h % last.shape[1]] @ model.heads.weight[h]).log_softmax(-1)
            digits -= float(weight[position, h]) * logp[SIDS[item, h]].item()
        if weight[position].all():
            logits = torch.as_tensor(units()) @ query_by_hand(model, middle[position])
            dense.append(-logits.log_softmax(-1)[item].item())
    assert len(dense) > 1
    assert ((fully > 0) == (weights > 0).all(2)).all()
    expected = digits / weights.sum() + share * np.mean(dense)
    loss = model(items, weights, fully) / weights.sum()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_text_of_a_partly_masked_item_cannot_be_seen(model: MaskGR) -> None:
    """If any digit of an item is masked, its text changes nothing; the text of the visible item before it
    does.
    """
    items, weights, none = torch.tensor([[5, 2, 9]]), torch.zeros(1, 3, H), torch.zeros(1, 3)
    weights[0, 2, 1] = 1.0
    before = model(items, weights, none).item()
    model.dense.text[9] = torch.randn(E)
    assert model(items, weights, none).item() == before
    model.dense.text[2] = torch.randn(E)
    assert abs(model(items, weights, none).item() - before) > 1e-4


def test_decoding_sees_the_texts_of_the_history_alone(model: MaskGR) -> None:
    """Beams have no text: the item that is decoded is unknown, whatever digits are unmasked."""
    sids = torch.tensor([[[V, V, V], [*SIDS[9, :2], V], [V, SIDS[9, 1], V]]])
    logp = model.denoiser(torch.tensor([[5, 2]]))(sids)[0]  # [K, H, V]
    for beam, sid in zip(logp, sids[0], strict=True):
        _, last = by_hand(
            model, [5, 2, 9], np.stack((np.zeros(H, bool), np.zeros(H, bool), (sid == V).numpy()))
        )
        for h in range(H):
            torch.testing.assert_close(
                beam[h], (last[2, h % last.shape[1]] @ model.heads.weight[h]).log_softmax(-1), **EXACT
            )


def test_dense_retrieval_is_every_dot_product_sorted(model: MaskGR, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_beam, "CELLS", 2)  # a block of K items at a time
    query = model.dense_query(HISTORIES)
    for K in (4, N, N + 5):
        result = dense_search(query, model.dense.text, Eligible.of(N), K)
        for row, history in enumerate([[3, BARE], [5, 2, 9, 4]]):
            masked = np.arange(len(history) + 1)[:, None].repeat(H, 1) == len(history)
            states, _ = by_hand(model, [*history, 0], masked)
            scores = units() @ query_by_hand(model, states[-1]).detach().numpy()
            order = np.argsort(-scores)[:K]
            assert result.items[row, :, 0].tolist() == order.tolist()
            np.testing.assert_allclose(result.scores[row], scores[order], rtol=1e-4, atol=1e-5)
            assert scores[BARE] == 0
        assert (result.invalid == 0).all()


def test_a_batch_is_its_members(model: MaskGR) -> None:
    codes = torch.randint(0, V + 1, (2, 5, H), generator=torch.Generator().manual_seed(0))
    queries, logp = model.dense_query(HISTORIES), model.denoiser(HISTORIES)(codes)
    for row, history in enumerate([[3, BARE], [5, 2, 9, 4]]):
        torch.testing.assert_close(model.dense_query(torch.tensor([history]))[0], queries[row], **EXACT)
        torch.testing.assert_close(
            model.denoiser(torch.tensor([history]))(codes[row : row + 1])[0], logp[row], **EXACT
        )
    empty = model.dense_query(HISTORIES[:, :0])
    assert empty.isfinite().all()
    torch.testing.assert_close(empty[0], empty[1])


def test_an_extended_cache_includes_the_text() -> None:
    model = build("prefix")
    cache = model.extend(model.prefill(HISTORIES[:, :3]), HISTORIES[:, 3])
    codes = torch.full((2, 1, H), V)
    torch.testing.assert_close(
        model.objective.denoiser(partial(model.states_after, cache), HISTORIES)(codes),
        model.denoiser(HISTORIES)(codes),
        **EXACT,
    )


def test_save_and_load_change_nothing_and_store_no_text(model: MaskGR, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    loading.save(model, path)
    other = build(model.config.attention, seed=9, tokens=model.config.tokens)
    assert not torch.allclose(other.dense_query(HISTORIES), model.dense_query(HISTORIES))
    loading.load(other, path)
    assert torch.equal(other.dense_query(HISTORIES), model.dense_query(HISTORIES))
    assert "dense.text" not in model.state_dict()
    with pytest.raises(UserError, match="dense.enter is .* in the file, unknown in the model"):
        loading.load(
            build(model.config.attention, dense=False, dense_layer=None, tokens=model.config.tokens), path
        )


def search(model: MaskGR, **decoding: object) -> Recommendations:
    items = np.array([3, BARE, 5, 2, 9, 4, 1, 6, 8], np.int32)
    split = Split(
        items, np.array([0, 2, 6, 9]), np.arange(3, dtype=np.int32), np.array([[1], [2], [3]], np.int32)
    )
    return recommend(model, split, PartialIndex(SIDS, V), Decoding(**decoding), ListProgress())


@pytest.mark.parametrize("constrained", [True, False])
def test_unified_retrieval_orders_the_same_beams_by_their_dense_scores(
    model: MaskGR, constrained: bool
) -> None:
    settings = {"beams": 96, "constrained": constrained}
    generative, unified = search(model, **settings), search(model, **settings, retrieval="unified")
    dense = search(model, beams=N, retrieval="dense")
    score = [
        dict(zip(items, scores, strict=True))
        for items, scores in zip(dense.items[:, :, 0].tolist(), dense.scores, strict=True)
    ]
    reordered = 0
    for user in range(3):
        before, after = generative.items[user, :, 0].tolist(), unified.items[user, :, 0].tolist()
        items = [i for i in before if i >= 0]
        assert after == sorted(items, key=score[user].get, reverse=True) + [-1] * (96 - len(items))
        np.testing.assert_allclose(
            unified.scores[user, : len(items)], [score[user][i] for i in after[: len(items)]], atol=1e-5
        )
        reordered += after != before
    assert reordered
    assert np.array_equal(generative.invalid, unified.invalid)
    assert (unified.invalid > 0).any() != constrained


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8, 1.0])
def test_the_unified_score_is_a_weighted_sum(model: MaskGR, weight: float) -> None:
    generative = search(model, beams=12)
    unified = search(model, beams=12, retrieval="unified", dense_weight=weight)
    dense = search(model, beams=N, retrieval="dense")
    for user in range(3):
        score = dict(zip(dense.items[user, :, 0].tolist(), dense.scores[user].tolist(), strict=True))
        found = zip(generative.items[user, :, 0].tolist(), generative.scores[user].tolist(), strict=True)
        mixed = {item: (1 - weight) * log_p + weight * score[item] for item, log_p in found}
        order = sorted(mixed, key=mixed.get, reverse=True)
        assert unified.items[user, :, 0].tolist() == order
        np.testing.assert_allclose(unified.scores[user], [mixed[item] for item in order], atol=1e-5)


def test_reranking_adds_no_beam() -> None:
    items, scores = torch.tensor([[[4], [-1], [-1], [2]]]), torch.tensor([[-1.0, -2.0, -torch.inf, -3.0]])
    text = torch.eye(6)
    result = rerank(Beams(items, scores, torch.ones(1)), torch.tensor([[0.0, 0, 2, 0, -9, 0]]), text)
    assert result.items[0, :, 0].tolist() == [2, 4, -1, -1]
    assert result.scores[0, :2].tolist() == [2, -9]
    assert result.invalid.tolist() == [1]
    assert result.duplicates.tolist() == [1]


def test_an_item_without_text_is_trained_and_ranked_like_others(model: MaskGR) -> None:
    items, weights, fully = torch.tensor([[5, BARE]]), torch.zeros(1, 2, H), torch.tensor([[0.0, 1.0]])
    weights[0, 1] = 1.0
    loss = model(items, weights, fully)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    result = dense_search(model.dense_query(HISTORIES), model.dense.text, Eligible.of(N), N)
    assert (result.scores[result.items[:, :, 0] == BARE] == 0).all()


def test_the_projection_has_the_widths_of_the_paper() -> None:
    """The paper (section 4.6) has one hidden layer of width 256, and weights of rank 32."""
    assert [tuple(p.shape) for p in build().dense.leave.parameters()] == [
        (32, H * D),
        (256, 32),
        (256,),
        (32, 256),
        (E, 32),
        (E,),
    ]


def test_a_share_of_the_items_is_masked_fully_by_default(model: MaskGR) -> None:
    items = np.tile(np.arange(6), (4000, 1))
    _, weights, fully = model.make_training_batch(items, np.random.default_rng(0))
    masked = (weights > 0).sum(2)  # [B, n]
    assert weights.mean() == pytest.approx(1, abs=0.05)
    if model.encodes_once:
        # A share β of the items is masked fully; the others mask any number of digits, equally often each.
        assert ((masked == H).mean(), (masked == 0).mean()) == pytest.approx(
            (0.2 + 0.8 / (H + 1), 0.8 / (H + 1)), abs=0.02
        )
    else:
        together = ((masked == H) | (masked == 0)).all(1) & (masked > 0).any(1) & (masked == 0).any(1)
        # A share β of the sequences masks items fully; 0 to 6 of their items, each number equally likely.
        assert together.mean() == pytest.approx(0.2 * 5 / 7, abs=0.03)
    assert fully[masked == H].sum() == pytest.approx(weights.sum(), rel=1e-3)
    assert (fully[masked < H] == 0).all()
    plain = build(model.config.attention, dense=False, dense_layer=None)
    assert len(plain.make_training_batch(items, np.random.default_rng(0))) == 2


@pytest.mark.parametrize(("layers", "layer", "depth"), [(8, None, 4), (1, None, 1), (3, None, 1), (3, 3, 3)])
def test_the_dense_layer_is_half_of_the_layers_by_default(layers: int, layer: int | None, depth: int) -> None:
    assert MaskGRConfig(layers=layers, dense=True, dense_layer=layer).dense_depth == depth
    learned = MaskGRConfig(layers=layers, dense=True, dense_layer=layer, dense_vectors="learned")
    assert learned.dense_depth == (layer or layers)
    model = build(layers=layers, dense_layer=layer)
    items, weights, fully = model.make_training_batch(HISTORIES.numpy(), np.random.default_rng(3))
    assert model(items, weights, fully).isfinite()


def test_learned_vectors_are_a_function_of_texts(model: MaskGR) -> None:
    """An item's score is the product of a query, linear in the states, and a vector of its text. The loss is
    a cross-entropy over all items. The vectors follow the weights.
    """
    attention, tokens = model.config.attention, model.config.tokens
    learned = build(attention, tokens=tokens, dense_vectors="learned")
    head, items = learned.dense, [5, 2, 9]
    up, _, down = head.texts
    hidden = torch.nn.functional.gelu(torch.as_tensor(units() * E**0.5).float() @ up.weight.T + up.bias)
    vectors = hidden @ down.weight.T + down.bias  # [N, D]
    masked = np.zeros((3, H), bool)
    masked[2] = True
    middle, _ = by_hand(learned, items, masked)
    normed = [
        torch.nn.functional.layer_norm(state, (D,), head.norm.weight, head.norm.bias) for state in middle[2]
    ]
    query = head.leave.weight @ torch.cat(normed)
    asked = learned.dense_query(torch.tensor([items[:2]]))[0]
    torch.testing.assert_close(asked, query, **EXACT)
    with torch.no_grad():
        found = dense_search(asked[None], learned.text, Eligible.of(N), N)
        assert learned.text is learned.text  # kept while decoding
        learned.eval()  # forgets them
        with torch.autocast("cpu", torch.bfloat16):
            assert learned.text.dtype == learned.dense_query(torch.tensor([items[:2]])).dtype == torch.float32
            found = dense_search(asked[None], learned.text, Eligible.of(N), N)
    order = (vectors @ query).argsort(descending=True)
    assert found.items[0, :, 0].tolist() == order.tolist()
    weights, fully = torch.zeros(1, 3, H), torch.tensor([[0.0, 0.0, 1.0]])
    weights[0, 2] = 1e-9  # the digits count for nothing
    loss = learned(torch.tensor([items]), weights, fully)
    expected = -(vectors @ query).log_softmax(0)[9]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    loss.backward()  # of several processes, each parameter needs a gradient
    assert not [name for name, parameter in head.named_parameters() if parameter.grad is None]
    learned.train()
    with torch.no_grad():
        down.bias += 1.0
        torch.testing.assert_close(learned.eval().text, vectors + 1.0, **EXACT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dense_layer": 2}, "--dense-layer 2 needs --dense; with --no-dense leave it out."),
        (
            {"dense": True, "dense_layer": 9},
            r"--dense-layer 9 must lie between 1 and --layers \(8\)\.",
        ),
        ({"dense": True, "dense_layer": 0}, "--dense-layer is 0; it must be between 1 and 256."),
    ],
)
def test_a_dense_layer_that_does_not_exist_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        MaskGRConfig(**wrong)


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"nfe": 2}, "--nfe"),
        ({"unmask_counts": "1,2"}, "--unmask-counts"),
        ({"guidance": 1.0}, "--guidance"),
        ({"constrained": False}, "--no-constrained"),
        ({"unmask": "random", "approximate": True}, "--unmask, --approximate"),
    ],
)
def test_dense_retrieval_refuses_settings_of_beams(settings: dict, flags: str) -> None:
    with pytest.raises(UserError, match=f"^{flags} ha(s|ve) no effect on --retrieval dense, which scores"):
        Decoding(retrieval="dense", **settings)
    Decoding(retrieval="unified", **settings)


def test_the_name_of_a_decoding_begins_with_the_retrieval() -> None:
    assert Decoding(retrieval="dense", exclude_seen=True).name == "dense-k20-exclude-seen"
    assert Decoding(retrieval="unified").name == "unified-greedy-k20-constrained"
    mixed = Decoding(retrieval="unified", dense_weight=0.25)
    assert mixed.name == "unified-greedy-k20-constrained-d0.25"
    assert Decoding().name == "greedy-k20-constrained"
    with pytest.raises(UserError, match="'sparse' is unknown; choose generative, ranking, dense, unified"):
        Decoding(retrieval="sparse")
