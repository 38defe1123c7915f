"""Tiny encoders in the hub's own folder format, and texts of many lengths."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.workspace import Dataset, Workspace
from tests.conftest import write_toy

WORDS = ["red", "blue", "cream", "brush", "soap", "hair", "skin", "oil"]
TEXTS = [" ".join(WORDS[(i * 5 + j) % len(WORDS)] for j in range(1 + (i * 7) % 11)) for i in range(30)]


def write_items(dataset: Dataset, texts: list[str]) -> Dataset:
    """Give a data set these item texts, and sequences of these items."""
    rows = range(len(texts))
    table = pa.table(
        {
            "item": pa.array(rows, pa.int32()),
            "item_id": [f"item-{i}" for i in rows],
            "text": pa.array(texts, pa.string()),
        }
    )
    artifacts.write(dataset.items, "items", table, config={})
    users = [[(user + i) % len(texts) for i in range(8)] for user in range(40)]
    write_sequences(dataset, users)
    return dataset


def write_sequences(dataset: Dataset, users: list[list[int]]) -> None:
    """Give a data set these sequences."""
    table = pa.table(
        {
            "user": pa.array(range(len(users)), pa.int32()),
            "user_id": [f"user-{user}" for user in range(len(users))],
            "items": pa.array(users, pa.list_(pa.int32())),
        }
    )
    artifacts.write(dataset.sequences, "sequences", table, config={}, inputs={"items": dataset.items})


@pytest.fixture
def dataset(workspace: Workspace) -> Dataset:
    return write_items(write_toy(workspace).dataset("toy"), TEXTS)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT sentence encoder: 16 wide, 2 layers, at most 32 tokens."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *(f"{w}s" for w in WORDS),
        "group",
        "number",
    ]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole T5, decoder and head included, as flan-t5-xxl lies on the hub: 16 wide, gated GELU, untied
    head.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny-t5"
    vocabulary = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((f"▁{word}", -float(i)) for i, word in enumerate(WORDS, 1)),
    ]
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(folder)
    return folder
