"""Labels and horizons of model configurations."""

from __future__ import annotations

import pytest

from pipelines.errors import UserError
from pipelines.models.config import label
from pipelines.models.registry import MODELS, model_class, model_config
from pipelines.train.configure import configure


@pytest.mark.parametrize(
    ("model", "settings", "traits"),
    [
        ("maskgr", {}, ()),
        (
            "maskgr",
            {"layers": 2, "width": 64, "dropout": 0.3, "whole_item": 0.0},
            (),
        ),  # sizes make no other kind of model
        (
            "maskgr",
            {"attention": "prefix", "tokens": "item", "likelihood": "item"},
            ("prefix attention", "item tokens", "item softmax"),
        ),
        ("maskgr", {"centroids": True, "whole_item": 0.9}, ("centroids", "whole item 0.9")),
        ("maskgr", {"label_smoothing": 0.1, "next_item": 0.8}, ("label smoothing 0.1", "next item 0.8")),
        ("sasrec", {}, ("softmax loss",)),
        ("sasrec", {"loss": "bce"}, ()),
        ("sasrec", {"loss": "gbce", "negatives": 1256}, ("gbce loss", "1,256 negatives")),
        (
            "dreamrec",
            {"ranking": 1.0, "vector_length": 0.3, "residual": True},
            ("cross-entropy 1", "vectors of length 0.3", "residual"),
        ),
    ],
)
def test_traits_are_the_values_that_make_another_kind_of_model(
    model: str, settings: dict, traits: tuple[str, ...]
) -> None:
    assert model_config(model, settings).traits == traits


def test_the_traits_of_small_are_its_departures_from_the_publication() -> None:
    assert {*configure("maskgr", "small", {})[0].traits} >= {
        *("prefix attention", "item tokens", "item softmax", "centroids", "item embeddings", "repeat bias"),
    }
    for model in MODELS:
        published = configure(model, "paper", {})[0]
        assert published.departures(published) == ()


def test_labels_of_values_in_tables() -> None:
    assert [
        label("centroids", False),
        label("optimizer", "muon"),
        label("sids", 3),
        label("mask_ratio", 0.2),
    ] == [
        *("no centroids", "Muon", "sids 3", "mask ratio 0.2"),
    ]


@pytest.mark.parametrize(
    "name", ["sasrec", "bsarec", "bert4rec", "maskgr-items", "liger", "dreamrec", "cadirec", "rpg", "diffgrm"]
)
def test_models_of_the_next_item_alone_refuse_a_longer_horizon(name: str) -> None:
    model_class(name)().check_horizon(1)
    with pytest.raises(
        UserError, match=f"--horizon 2 has no effect on --model {name}, which recommends one item"
    ):
        model_class(name)().check_horizon(2)


@pytest.mark.parametrize("name", ["maskgr", "tiger"])
def test_models_of_several_items_take_a_longer_horizon(name: str) -> None:
    assert model_class(name)().check_horizon(3) is None
