"""What configurations say of themselves."""

from __future__ import annotations

import pytest

from pipelines.models.config import said
from pipelines.models.registry import MODELS, model_config
from pipelines.train.configure import configure


@pytest.mark.parametrize(
    ("model", "settings", "traits"),
    [
        ("maskgr", {}, ()),
        (
            "maskgr",
            {"layers": 2, "width": 64, "dropout": 0.3, "whole_item": 0.0},
            (),
        ),  # sizes make no other kind
        (
            "maskgr",
            {"attention": "prefix", "tokens": "item", "likelihood": "item"},
            ("prefix attention", "item tokens", "joint digits"),
        ),
        ("maskgr", {"centroids": True, "whole_item": 0.9}, ("centroids", "whole item 0.9")),
        ("maskgr", {"label_smoothing": 0.1, "next_item": 0.8}, ("label smoothing 0.1", "next item 0.8")),
        ("sasrec", {}, ("softmax loss",)),
        ("sasrec", {"loss": "bce"}, ()),
        ("sasrec", {"loss": "gbce", "negatives": 1256}, ("gbce loss", "1,256 negatives")),
        (
            "dreamrec",
            {"ranking": 1.0, "vector_length": 0.3, "residual": True},
            ("cross-entropy 1", "vectors 0.3 long", "residual"),
        ),
    ],
)
def test_traits_name_what_makes_another_kind_of_model(
    model: str, settings: dict, traits: tuple[str, ...]
) -> None:
    assert model_config(model, settings).traits == traits


def test_every_choice_of_small_is_named_beside_the_published_settings() -> None:
    assert {*configure("maskgr", "small", {})[0].traits} >= {
        *("prefix attention", "item tokens", "joint digits", "centroids", "item embeddings", "repeat bias"),
    }
    for model in MODELS:
        published = configure(model, "paper", {})[0]
        assert published.departures(published) == ()


def test_values_as_tables_say_them() -> None:
    assert [
        said("centroids", False),
        said("optimizer", "muon"),
        said("sids", 3),
        said("mask_ratio", 0.2),
    ] == [
        *("no centroids", "Muon", "sids 3", "mask ratio 0.2"),
    ]
