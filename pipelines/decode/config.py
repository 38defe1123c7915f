"""How to decode: one frozen value that names itself. Light to import."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields

from pipelines.errors import UserError
from pipelines.options import SEED, check, option, shown

ORDERS = ("greedy", "left-to-right", "random")  # each beam takes its digits in an order of its own
CONFIDENCE = "confidence"  # the masked digits of all beams compete
UNMASKINGS = (*ORDERS, CONFIDENCE)
BEAMS = (1, 10_000)
RETRIEVALS = ("generative", "ranking", "dense", "unified")
REVEAL = re.compile(r"[1-9][0-9]{0,2}(,[1-9][0-9]{0,2}){0,63}")  # counts of digits, with commas between
MEANT_BY_DENSE = ("retrieval", "beams", "exclude_seen", "seed")  # all other settings are about beams


@dataclass(frozen=True)
class Decoding:
    """How the next item is found: digit by digit (paper, sections 3.2 and 4.5), by its text embedding, both (3.3), or by scores of items.

    What is None is the model's own choice; `evaluate.abilities.resolve_decoding` puts it in.

    Raises:
        UserError: a value out of its bounds, settings of beams without any, counts that cannot be read.
    """

    retrieval: str | None = field(
        default=None,
        metadata=option(
            "generative: beams; ranking: a score of each item; dense: text embeddings; unified: beams re-ranked by these. "
            "[default: the model's own]",
            choices=RETRIEVALS,
        ),
    )
    unmask: str | None = field(
        default=None,
        metadata=option(
            f"Order of unmasking: {', '.join(UNMASKINGS)}. [default: the model's own]", choices=UNMASKINGS
        ),
    )
    nfe: int | None = field(
        default=None,
        metadata=option(
            "Model evaluations per item: 1 to H digits, or of dreamrec's steps. [default: all, one digit or step each]",
            1,
            100_000,
        ),
    )
    unmask_counts: str | None = field(
        default=None,
        metadata=option(
            "Digits that each evaluation reveals, e.g. 1,2,2. [default: as even as can be, larger last]"
        ),
    )
    beams: int = field(default=20, metadata=option("Beams K; metrics are reported up to this depth.", *BEAMS))
    constrained: bool = field(
        default=True, metadata=option("Let beams reach only semantic IDs of the catalogue.")
    )
    nearest: bool = field(
        default=False,
        metadata=option(
            "Beams that are no item become the item with most digits in common; needs --no-constrained."
        ),
    )
    remask: int = field(
        default=0,
        metadata=option(
            "Further evaluations after the last, each deciding anew the least certain digit of every beam.",
            0,
            100,
        ),
    )
    guidance: float = field(
        default=0.0,
        metadata=option(
            "Weight w of classifier-free guidance on the history; needs a run trained with --history-dropout.",
            0.0,
            100.0,
        ),
    )
    approximate: bool = field(
        default=False,
        metadata=option("Encode histories once although the model has full attention: faster, not exact."),
    )
    exclude_seen: bool = field(
        default=False, metadata=option("Leave out items of the user's own history, after the search.")
    )
    seed: int = field(default=0, metadata=option("Seed of the random order, or of dreamrec's noise.", *SEED))

    def __post_init__(self) -> None:
        check(self)
        idle = [name for name in self.typed if name not in MEANT_BY_DENSE]
        if self.retrieval == "dense" and idle:
            raise UserError(
                f"--retrieval dense scores every item in one evaluation, without beams; leave out {options(idle)}."
            )
        if self.nearest and self.constrained:
            raise UserError(
                "--nearest goes with --no-constrained: constrained beams are items. Leave one out."
            )
        if self.unmask_counts is not None and not REVEAL.fullmatch(self.unmask_counts):
            raise UserError(
                f"--unmask-counts {shown(self.unmask_counts)} is not a list of counts; write e.g. --unmask-counts 1,2,2."
            )

    @property
    def order(self) -> str:
        """The order of unmasking."""
        return self.unmask or ORDERS[0]

    @property
    def typed(self) -> list[str]:
        """The fields that differ from their defaults."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]

    def unmask_schedule(self, digits: int) -> tuple[int, ...]:
        """How many of the H digits each of the T evaluations reveals: `unmask_counts`, else as even as can be, the larger groups last.

        The first evaluations see the least, so they decide the fewest digits; for H = 5 and T = 3: 1, 2, 2. The paper
        takes the counts α as given (section 3.2) and does not say which it used.

        Raises:
            UserError: more evaluations than digits, or counts that do not add up.
        """
        if self.unmask_counts is not None:
            counts = tuple(map(int, self.unmask_counts.split(",")))
            if sum(counts) != digits or self.nfe not in (None, len(counts)):
                asked = f" in --nfe {self.nfe} evaluations" if self.nfe else ""
                raise UserError(
                    f"--unmask-counts {self.unmask_counts} must add up to the {digits} digits of an item{asked}."
                )
            return counts
        T = self.nfe or digits
        if digits < T:
            raise UserError(f"--nfe {T} is more than the {digits} digits of an item; use 1 to {digits}.")
        small, larger = divmod(digits, T)
        return (small,) * (T - larger) + (small + 1,) * larger

    def reachable(self, digits: int) -> list[frozenset[int]] | None:
        """The sets of revealed digits that the search can come to; None for all of them."""
        if self.retrieval == "dense":
            return [frozenset(range(digits))]
        if self.order != "left-to-right":
            return None
        return [frozenset(range(revealed)) for revealed in range(digits + 1)]

    @property
    def name(self) -> str:
        """A folder's name that tells decodings apart, e.g. "greedy-t3-k20-constrained"."""
        ranks = self.retrieval in ("ranking", "dense")
        parts = [self.retrieval] if self.retrieval not in (None, "generative") else []
        parts += [self.order if self.order != "random" else f"random{self.seed}"] if not ranks else []
        parts += (
            ["r" + self.unmask_counts.replace(",", "-")]
            if self.unmask_counts
            else [f"t{self.nfe}"]
            if self.nfe
            else []
        )
        parts += [f"k{self.beams}"]
        parts += (
            ["constrained" if self.constrained else "unconstrained"]
            if not ranks
            else [f"s{self.seed}"]
            if self.seed
            else []
        )
        parts += [f"m{self.remask}"] if self.remask else []
        parts += [f"w{self.guidance:g}"] if self.guidance else []
        return "-".join(
            (*parts, *(name for name in ("nearest", "approximate", "exclude_seen") if getattr(self, name)))
        )


def options(names: list[str]) -> str:
    """Fields of `Decoding` as a person types them."""
    return ", ".join("--no-constrained" if name == "constrained" else f"--{name}" for name in names)
