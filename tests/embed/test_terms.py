"""Terms where words are separated by spaces, where they are not, and where both occur."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.embed import lsa
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.embed.terms import CHARACTERS, SCRIPTS, WORDS, Terms
from pipelines.workspace import Dataset
from tests.conftest import ListProgress
from tests.embed.conftest import TEXTS, write_items
from tests.embed.test_lsa import read

COLORS, KINDS = "蓝白黑红绿", ["桌子", "灯具", "花瓶", "杯子"]
CHINESE = [f"{color}{kind}系列" for kind in KINDS for color in COLORS]


def terms_of(texts: list[str], text: str) -> set[str]:
    """Return the terms of a text in a catalogue of texts."""
    encoder, _ = lsa.fit([*texts, text], 2, 0, ListProgress())
    vectorizer = lsa.vectorizer_of(Terms(encoder.kind))
    return set(vectorizer.build_analyzer()(text))


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (TEXTS, WORDS),
        (CHINESE, SCRIPTS),
        ([*TEXTS, "ครีมทาผิว"], SCRIPTS),
        (["redlipstick", "bluelipstick", "a brush"], CHARACTERS),
        (
            ["redlipstick. nike", "bluelipstick. nike"],
            CHARACTERS,
        ),  # the space between two fields counts nothing
        (["Crème brûlée", "مرحبا بالعالم", "नमस्ते दुनिया", "한국어 텍스트"], WORDS),
    ],
)
def test_the_texts_choose_the_kind(texts: list[str], kind: str) -> None:
    assert Terms.of_texts(texts).kind == kind


def test_mixed_texts_have_words_and_runs_of_characters() -> None:
    assert terms_of(TEXTS, "iPhone手机 red") == {"iphone", "red", "iphone red", "手", "机", "手机"}
    assert terms_of(TEXTS, "ｶﾅ") == {"カ", "ナ", "カナ"}  # half-width letters are those of full width
    assert terms_of(TEXTS, "red soap") == {"red", "soap", "red soap"}


def test_words_without_spaces_become_runs_inside_words() -> None:
    assert terms_of(["redsoap", "oil"], "ab-c") == {" a", "ab", "b ", " ab", "ab ", " ab ", " c", "c ", " c "}


def test_chinese_titles_are_told_apart_and_those_of_a_kind_are_near(
    dataset: Dataset, progress: ListProgress
) -> None:
    write_items(dataset, CHINESE)
    build_embeddings(dataset, EmbedConfig(dimensions=16), progress)
    values = read(dataset)
    assert len(np.unique(values.round(4), axis=0)) == len(CHINESE)
    near = values @ values.T - 2 * np.eye(len(values))
    nearest = np.argsort(-near, axis=1)[:, :2] // len(COLORS)  # [20, 2], kinds of the nearest items
    assert (nearest == np.arange(20)[:, None] // len(COLORS)).mean() > 0.9
    assert any("1 to 3 characters in a row of scripts without spaces" in said for said in progress.messages)
    assert any("because 20 of 20 texts have letters of such scripts" in said for said in progress.messages)
