"""Configuration of `maskgr tokenize`. Light to import, because the command line makes options of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.names import slug
from pipelines.options import SEED, check, flag_of, has_no_effect, option

METHODS = ("kmeans", "random", "rqvae", "pq", "opq")  # each a module of this package
RANDOM = "random"  # the method that reads no embeddings
DIGITS = (1, 256)  # bounds of m
CODES = (2, 32_767)  # bounds of V; digits are stored as int16
# Option that only some methods read → its default, and these methods.
ONLY: dict[str, tuple[int, tuple[str, ...]]] = {
    "iterations": (25, ("kmeans", "rqvae", "pq", "opq")),
    "steps": (3000, ("rqvae",)),
    "sample": (1_000_000, ("kmeans", "rqvae", "pq", "opq")),
    "unit_residuals": (False, ("kmeans",)),
}


@dataclass(frozen=True)
class TokenizeConfig:
    """Settings of semantic IDs: m digits of V codes from a method, then a deduplication digit (H = m + 1).

    Where more items have equal codes than a digit has codes, further deduplication digits follow.

    A field that is None is set to its default on construction. After that, only options that the method does
    not read are None.

    `normalize` is off by default because it costs more than it gains with k-means, on Beauty and Sports (LSA
    of 128 dimensions, mean of five seeds): with vectors of unit length 29 % and 52 % of the items share their
    codes before deduplication, and with vectors as they are 22 % and 41 %. What the first digit of an item
    tells about the first digit of the next item rises by only 3 to 4 %.

    Attributes:
        num_levels: m.
        codebook: V.
        method: one of `METHODS`.
        seed: seed of all random draws.
        iterations: Lloyd iterations of each k-means; with opq also rounds of rotation.
        normalize: scale embeddings to unit length.
        unit_residuals: with kmeans, scale the residuals of each level to unit length.
        steps: training steps of rqvae.
        sample: most items that the codebooks are learned from; they are drawn by `seed`.
        source: file of semantic IDs that another program made; m and V are then those of the file.

    Raises:
        UserError: a value is out of range, or the method does not read an option that is given.
    """

    num_levels: int = field(
        default=4,
        metadata=option(
            "Digits m from the method; a deduplication digit follows. [default: 4]", *DIGITS, flag="--sids"
        ),
    )
    codebook: int = field(default=256, metadata=option("Codes V per digit. [default: 256]", *CODES))
    method: str = field(
        default="kmeans",
        metadata=option(
            "kmeans (residual k-means), rqvae (autoencoder with residual quantization), pq (product "
            "quantization), "
            "opq (the same after a learned rotation) or random (no content). [default: kmeans]",
            choices=METHODS,
        ),
    )
    seed: int = field(default=0, metadata=option("Seed of all random draws. [default: 0]", *SEED))
    iterations: int | None = field(
        default=None,
        metadata=option(
            "Lloyd iterations of each k-means; with opq also rounds of rotation. [default: 25]", 1, 10_000
        ),
    )
    normalize: bool = field(
        default=False, metadata=option("Scale embeddings to unit length first. [default: no]")
    )
    unit_residuals: bool | None = field(
        default=None,
        metadata=option(
            "Cluster directions: kmeans scales the residuals of each level to unit length. [default: no]"
        ),
    )
    steps: int | None = field(
        default=None,
        metadata=option("Training steps of rqvae, 256 vectors each. [default: 3000]", 1, 10_000_000),
    )
    sample: int | None = field(
        default=None,
        metadata=option(
            "Most items that the codebooks are learned from, drawn by --seed; the others only get their "
            "codes. [default: 1000000]",
            2,
            2**31 - 1,
        ),
    )
    source: str | None = field(
        default=None,
        metadata=option(
            "Take the semantic IDs of another program from this file instead: Parquet, CSV or JSON Lines "
            "with ids and codes, or a dictionary from ids to tokens such as <a_12>.",
            path=True,
            flag="--from",
        ),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.source is not None:
            changed = [f for f in fields(self) if f.name != "source" and getattr(self, f.name) != f.default]
            if changed:
                raise has_no_effect(
                    [flag_of(f) for f in changed], "--from", "which names the codes themselves"
                )
            return
        for name, (default, methods) in ONLY.items():
            value, is_read = getattr(self, name), self.method in methods
            if value is None and is_read:
                object.__setattr__(self, name, default)
            elif value is False and not is_read:  # the other methods do not do it in any case
                object.__setattr__(self, name, None)
            elif value is not None and not is_read:
                raise UserError(
                    f"--{name.replace('_', '-')} means nothing to --method {self.method}. Leave it out."
                )

    def recorded(self, items: int) -> dict[str, Any]:
        """Return the settings as the provenance of semantic IDs holds them.

        Args:
            items: N. In a catalogue that is not larger than `sample`, this setting has no effect.
        """
        settings = asdict(self)
        if self.sample is None or self.sample >= items:
            settings.pop("sample")
        source = settings.pop("source")
        return settings if source is None else {"source": Path(source).name}


def default_name(embedding: str | None, config: TokenizeConfig) -> str:
    """Return the name of semantic IDs if the user gives none.

    It holds the embeddings, m and V, and every other setting that differs from its default: "lsa-4x256", or
    "lsa-16x256-opq-s7" for opq and seed 7. For a file it is the name of the file.

    Args:
        embedding: name of the embeddings; None if there are none, for the method random.
    """
    if config.source is not None:
        return slug(Path(config.source).name.split(".")[0], "sids")
    parts = [embedding or config.method, f"{config.num_levels}x{config.codebook}"]
    if config.method != "kmeans" and embedding:
        parts.append(config.method)
    if config.seed != 0:
        parts.append(f"s{config.seed}")
    for name in ("iterations", "steps"):
        value = getattr(config, name)
        if value not in (None, ONLY[name][0]):
            parts.append(f"{name[0]}{value}")
    if config.sample not in (None, ONLY["sample"][0]):
        parts.append(f"sample{config.sample}")
    if config.normalize:
        parts.append("unit")
    if config.unit_residuals:
        parts.append("unit-residuals")
    return "-".join(parts)
