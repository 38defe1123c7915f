"""Options of the export of a run. Light to import: the command line makes options of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipelines.errors import UserError
from pipelines.options import GIVEN, check, option, quoted

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True)
class BundleConfig:
    """What is exported besides the bundle itself, and where it goes.

    Raises:
        UserError: a value is out of its bounds, or has no effect without another.
    """

    onnx: bool = field(
        default=False,
        metadata=option(
            "Write model.onnx too: one function evaluation from histories to the best items, for programs "
            "without PyTorch. Needs the extra onnx."
        ),
    )
    onnx_items: int = field(
        default=100,
        metadata=option(
            "Number of items that model.onnx returns for a history. [default: 100]",
            1,
            10_000,
            requires={"onnx": (True,)},
        ),
    )
    push: str | None = field(
        default=None,
        metadata=option("Upload the bundle to this repository, OWNER/NAME, of the Hugging Face Hub."),
    )
    private: bool = field(
        default=False,
        metadata=option("Let nobody else see a repository that --push creates.", requires={"push": GIVEN}),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.push is not None:
            checked_repository("--push", self.push)


def checked_repository(flag: str, name: str) -> str:
    """Return the name of a repository if it is valid.

    Raises:
        UserError: it is not OWNER/NAME.
    """
    if REPOSITORY.fullmatch(name):
        return name
    raise UserError(f"{flag} {quoted(name)} is no name of a repository. Write OWNER/NAME.")
