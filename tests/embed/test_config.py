"""What the configuration resolves to and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError


@pytest.mark.parametrize(
    ("encoder", "name", "normalize"),
    [
        ("lsa", "lsa", True),
        ("minilm", "minilm", True),
        ("google/flan-t5-xxl", "flan-t5-xxl", False),
        ("./my models/BERT (v2)/", "BERT-v2-", False),
    ],
)
def test_encoder_gives_name_and_normalisation(encoder: str, name: str, normalize: bool) -> None:
    config = EmbedConfig(encoder=encoder)
    assert (config.name, config.normalize) == (name, normalize)
    assert EmbedConfig(encoder=encoder, normalize=not normalize).normalize is not normalize


def test_a_long_encoders_name_is_cut() -> None:
    assert EmbedConfig(encoder=f"someone/{'x' * 200}").name == "x" * 100
    with pytest.raises(UserError, match="cannot be a name: it has 129 characters"):
        EmbedConfig(name="x" * 129)


def test_identity_is_what_the_embeddings_depend_on() -> None:
    assert EmbedConfig(name="a").identity(200_000) == {
        "encoder": "lsa",
        "normalize": True,
        "dtype": "float32",
        "dimensions": 128,
        "seed": 0,
    }
    other = EmbedConfig(encoder="minilm", batch_size=4)
    assert other.identity(9) == {
        "encoder": "minilm",
        "normalize": True,
        "dtype": "float32",
        "max_length": 512,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": " "}, "--encoder is empty"),
        ({"dtype": "int8"}, "--dtype 'int8' is unknown; choose float32, float16"),
        ({"seed": -1}, "--seed is -1; it must be between 0 and 2,147,483,647"),
        ({"dimensions": 0}, "--dimensions is 0; it must be between 1 and 16,384"),
        ({"encoder": "minilm", "batch_size": 0}, "--batch-size is 0; it must be between 1 and 100,000"),
        ({"encoder": "minilm", "max_length": -5}, "--max-length is -5; it must be between 1"),
        ({"encoder": "minilm", "dimensions": 64}, "--dimensions means nothing to --encoder minilm"),
        ({"batch_size": 8}, "--batch-size means nothing to --encoder lsa"),
    ],
)
def test_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EmbedConfig(**settings)
