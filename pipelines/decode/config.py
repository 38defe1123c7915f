"""The settings of decoding, as one frozen value that names itself. Light to import."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields

from pipelines.errors import UserError
from pipelines.options import SEED, SHARE, check, flag_of, has_no_effect, option, quoted, typed

ORDERS = ("greedy", "left-to-right", "random")  # each beam unmasks its digits in an order of its own
CONFIDENCE = "confidence"  # the masked digits of all beams compete
UNMASKINGS = (*ORDERS, CONFIDENCE)
BEAMS = (1, 10_000)
RETRIEVALS = ("generative", "ranking", "dense", "unified")
COUNTS = re.compile(r"[1-9][0-9]{0,2}(,[1-9][0-9]{0,2}){0,63}")  # numbers of digits, with commas between
WITH_DENSE = ("retrieval", "beams", "exclude_seen", "seed")  # settings that have an effect on dense retrieval


@dataclass(frozen=True)
class Decoding:
    """Settings of decoding: next items by their digits (paper, sections 3.2 and 4.5), text embeddings, or
    both (3.3).

    A field that is None is the model's own choice; `evaluate.capabilities.resolve_decoding` fills it in.

    Raises:
        UserError: a value is out of its bounds, a setting has no effect beside another, or the unmask counts
            cannot be read.
    """

    retrieval: str | None = field(
        default=None,
        metadata=option(
            "Retrieval: generative (beam search), ranking (a score for each item), dense (text embeddings), "
            "or unified (beams re-ranked by text embeddings). [default: the model's own]",
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
            "Number of function evaluations T: 1 to the number of digits; of dreamrec, of its timesteps. "
            "[default: 1 where it ranks the catalogue exactly, else one per digit or timestep]",
            1,
            100_000,
        ),
    )
    unmask_counts: str | None = field(
        default=None,
        metadata=option(
            "Number of digits that each function evaluation unmasks, e.g. 1,2,2. [default: as even as "
            "possible, the larger ones last]"
        ),
    )
    beams: int = field(
        default=20, metadata=option("Number of beams K; metrics are reported up to this depth.", *BEAMS)
    )
    constrained: bool = field(
        default=True, metadata=option("Let beams reach only semantic IDs of the catalogue.")
    )
    nearest: bool = field(
        default=False,
        metadata=option(
            "Replace beams that are no item by the item with most digits in common.",
            requires={"constrained": (False,)},
        ),
    )
    remask: int = field(
        default=0,
        metadata=option(
            "Number of further function evaluations, each of which masks the least certain digit of every "
            "beam and decides it anew.",
            0,
            100,
        ),
    )
    guidance: float = field(
        default=0.0,
        metadata=option(
            "Weight w of classifier-free guidance by the history; needs a run trained with "
            "--history-dropout.",
            0.0,
            100.0,
        ),
    )
    approximate: bool = field(
        default=False,
        metadata=option("Encode histories once although the model has full attention: faster, not exact."),
    )
    dense_weight: float | None = field(
        default=None,
        metadata=option(
            "Weight W of the dense score in unified retrieval: the score of a beam is (1 − W) · log p + W · "
            "dense score; 1: the dense score alone, as in the paper. [default: the run's own, chosen on the "
            "validation split]",
            *SHARE,
            requires={"retrieval": ("unified",)},
        ),
    )
    exclude_seen: bool = field(default=False, metadata=option("Recommend no item of the user's own history."))
    seed: int = field(
        default=0, metadata=option("Seed of the random order of unmasking, and of dreamrec's noise.", *SEED)
    )

    def __post_init__(self) -> None:
        check(self)
        settings = [name for name in self.changed if name not in WITH_DENSE]
        if self.retrieval == "dense" and settings:
            raise has_no_effect(
                options(settings), "--retrieval dense", "which scores every item at once, without beams"
            )
        if self.unmask_counts is not None and not COUNTS.fullmatch(self.unmask_counts):
            raise UserError(
                f"--unmask-counts {quoted(self.unmask_counts)} is not a list of counts; write e.g. "
                "--unmask-counts 1,2,2."
            )

    @property
    def order(self) -> str:
        """Order of unmasking."""
        return self.unmask or ORDERS[0]

    @property
    def changed(self) -> list[str]:
        """Names of the fields that differ from their defaults."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]

    @property
    def at_once(self) -> bool:
        """True if one function evaluation ranks the items of the catalogue, for a horizon of 1."""
        return self.nfe == 1 and self.constrained and not self.remask

    def unmask_schedule(self, digits: int) -> tuple[int, ...]:
        """Return the number of digits that each of the T function evaluations unmasks, of S digits in all.

        By default the numbers are as even as possible with the larger ones last, since the first evaluations
        see the least; for S = 5 and T = 3: 1, 2, 2. The paper takes the counts α as given (section 3.2) and
        does not say which it used.

        Raises:
            UserError: there are more evaluations than digits, or the counts do not add up.
        """
        if self.unmask_counts is not None:
            counts = tuple(map(int, self.unmask_counts.split(",")))
            if sum(counts) != digits or self.nfe not in (None, len(counts)):
                evaluations = f" in --nfe {self.nfe} function evaluations" if self.nfe else ""
                raise UserError(
                    f"--unmask-counts {self.unmask_counts} must add up to the {digits} digits of an "
                    f"item{evaluations}."
                )
            return counts
        T = self.nfe or digits
        if digits < T:
            raise UserError(f"--nfe {T} is more than the {digits} digits of an item; use 1 to {digits}.")
        small, larger = divmod(digits, T)
        return (small,) * (T - larger) + (small + 1,) * larger

    def reachable(self, digits: int) -> list[frozenset[int]] | None:
        """Return the sets of unmasked digits that the search can reach, of items with H digits; None for all
        sets.
        """
        if self.retrieval == "dense" or self.at_once:
            return [frozenset(range(digits))]
        if self.order != "left-to-right":
            return None
        return [frozenset(range(unmasked)) for unmasked in range(digits + 1)]

    @property
    def name(self) -> str:
        """Name of a folder that distinguishes decodings, e.g. "greedy-t3-k20-constrained"."""
        ranks = self.retrieval in ("ranking", "dense")
        parts = [self.retrieval] if self.retrieval not in (None, "generative") else []
        if not ranks:
            parts += [self.order if self.order != "random" else f"random{self.seed}"]
        if self.unmask_counts:
            parts += ["r" + self.unmask_counts.replace(",", "-")]
        elif self.nfe:
            parts += [f"t{self.nfe}"]
        parts += [f"k{self.beams}"]
        if not ranks:
            parts += ["constrained" if self.constrained else "unconstrained"]
        elif self.seed:
            parts += [f"s{self.seed}"]
        parts += [f"m{self.remask}"] if self.remask else []
        parts += [f"w{self.guidance:g}"] if self.guidance else []
        parts += [f"d{self.dense_weight:g}"] if self.dense_weight not in (None, 1) else []
        flags = {"nearest": self.nearest, "approximate": self.approximate, "exclude-seen": self.exclude_seen}
        return "-".join((*parts, *(name for name, value in flags.items() if value)))


def options(names: list[str]) -> list[str]:
    """Return fields of `Decoding` that are not at their defaults as a user types them, without values."""
    by_name = {f.name: f for f in fields(Decoding)}
    return [
        typed(flag_of(by_name[name]), False) if name == "constrained" else flag_of(by_name[name])
        for name in names
    ]
