"""How semantic IDs are made. Light to import: the command line makes options of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.errors import UserError

LARGEST_CODEBOOK = 32_767  # digits are stored as int16


@dataclass(frozen=True)
class TokenizeConfig:
    """Residual k-means: m layers of V codes; an item has H = m + 1 digits.

    `normalise` is off because it cost more than it gained, on Beauty and Sports (LSA of 128 dimensions, mean of
    five seeds): with unit rows 29 % and 52 % of the items share their codes before deduplication, with rows as
    they are 22 % and 41 %; what an item's first digit tells of the next item's first digit rose by 3 to 4 % only.

    Raises:
        UserError: a value that is out of range.
    """

    layers: int = field(default=4, metadata={"help": "Layers m of residual k-means; a deduplication digit follows. [default: 4]"})
    codebook: int = field(default=256, metadata={"help": "Codes V per digit. [default: 256]"})
    seed: int = field(default=0, metadata={"help": "Seed of the first centroids. [default: 0]"})
    iterations: int = field(default=25, metadata={"help": "Lloyd iterations per layer. [default: 25]"})
    normalise: bool = field(default=False, metadata={"help": "Scale embeddings to unit length first. [default: no]"})
    random: bool = field(default=False, metadata={"help": "Draw the codes instead, so that they say nothing of an item. [default: no]"})

    def __post_init__(self) -> None:
        for option, value, least, most in (
            ("--sids", self.layers, 1, None),
            ("--codebook", self.codebook, 2, LARGEST_CODEBOOK),
            ("--seed", self.seed, 0, 2**31 - 1),
            ("--iterations", self.iterations, 1, None),
        ):
            if value < least or (most is not None and value > most):
                raise UserError(f"{option} is {value}; it must be at least {least}{f' and at most {most}' if most else ''}.")
        if self.random and self.normalise:
            raise UserError("--normalise means nothing to --random, which looks at no embeddings. Leave one out.")
        if (self.codebook + 1) ** (self.layers + 1) >= 2**63:
            raise UserError(
                f"--sids {self.layers} with --codebook {self.codebook} makes more partial SIDs than 64 bits count: "
                "(codebook + 1) ** (sids + 1) must stay below 2 ** 63. Use fewer layers or a smaller codebook."
            )


def default_name(embedding: str, config: TokenizeConfig) -> str:
    """What SIDs are called when no name is given, e.g. "lsa-4x256", "lsa-4x256-s7" for seed 7, "lsa-4x256-random"."""
    parts = [f"{embedding}-{config.layers}x{config.codebook}", *[f"s{config.seed}"] * bool(config.seed)]
    parts += [f"i{config.iterations}"] * (config.iterations != TokenizeConfig.iterations)
    return "-".join(parts + ["unit"] * config.normalise + ["random"] * config.random)
