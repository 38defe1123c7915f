"""The model card: front matter that the hub reads, and names that Markdown and HTML do not interpret."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from pipelines.bundle.card import plain
from pipelines.bundle.manifest import CARD
from tests.bundle.conftest import Bundled


def test_the_front_matter_is_what_the_hub_reads(bundled: Bundled) -> None:
    card = ModelCard.load(bundled("maskgr") / CARD)
    assert card.data.library_name == "maskgr"
    assert card.data.license == "other"
    assert card.data.tags == ["maskgr", "recommendation", "generative-recommendation", "semantic-ids"]
    for heading in ("## Use", "## Metrics", "## Data", "## Training", "## Limits"):
        assert heading in card.text
    assert 'model.recommend([["item-0", "item-1"]], k=10)' in card.text
    assert "60 users, 60 items, 480 interactions" in card.text
    assert "maskgr train --config train.toml" in card.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain title, 4 oz.", "plain title, 4 oz."),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("a|b *c* _d_ [e](f) `g`", r"a\|b \*c\* \_d\_ \[e\]\(f\) \`g\`"),
        ("two\nlines\r\n# heading", r"two lines \# heading"),
        ("\u202eturned", r"\u202eturned".replace("\\", r"\\")),
    ],
)
def test_texts_are_escaped(text: str, expected: str) -> None:
    assert plain(text) == expected
