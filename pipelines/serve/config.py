"""Options of the service. Light to import: the command line makes options of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipelines.errors import UserError
from pipelines.options import check, option, quoted

LONGEST_HISTORY = 10_000  # item ids of a history
MOST = 500  # largest number of recommendations, of beams, and of items that a search lists
LONGEST_FILTER = 10_000  # item ids of `allow` or of `deny`
LONGEST_TEXT = 1_000  # characters of an id, of a condition and of a search
LARGEST_BODY = 1 << 20  # bytes of the body of a request
PORTS = (0, 65_535)
HOST = re.compile(r"[0-9A-Za-z.:_-]{1,253}")


@dataclass(frozen=True)
class ServeConfig:
    """Address and limits of the service.

    Attributes:
        host: address that the service listens on.
        port: its port; 0 for a free one.
        admin_port: port of the administration on 127.0.0.1; None for no administration.
        max_batch: largest number of requests that are answered together.
        queue: largest number of requests that wait for the model.
        timeout: seconds after which a request that waits for the model, or whose body is incomplete, is given
            up.

    Raises:
        UserError: a value is out of its bounds.
    """

    host: str = field(
        default="127.0.0.1",
        metadata=option(
            "Address to listen on; 0.0.0.0 lets every machine of the network in. [default: 127.0.0.1]"
        ),
    )
    port: int = field(default=8000, metadata=option("Port; 0: a free one. [default: 8000]", *PORTS))
    admin_port: int | None = field(
        default=None,
        metadata=option(
            "Port of the administration (POST /reload), on 127.0.0.1 alone; 0: a free one. "
            "[default: no administration]",
            *PORTS,
        ),
    )
    max_batch: int = field(
        default=32,
        metadata=option("Largest number of requests that are answered together. [default: 32]", 1, 1024),
    )
    queue: int = field(
        default=128,
        metadata=option(
            "Largest number of requests that wait; further ones get status 503. [default: 128]", 1, 100_000
        ),
    )
    timeout: float = field(
        default=10.0,
        metadata=option(
            "Seconds after which a request that still waits gets status 503. [default: 10]", 0.001, 3600.0
        ),
    )

    def __post_init__(self) -> None:
        check(self)
        if not HOST.fullmatch(self.host):
            raise UserError(f"--host {quoted(self.host)} is no address; write e.g. --host 127.0.0.1.")
