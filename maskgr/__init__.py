"""Trained models in Python: `import maskgr; model = maskgr.load("data/runs/NAME")`.

docs/python.md is the tutorial. Importing this package loads neither torch nor polars; `load` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines import __version__ as __version__
from pipelines.decode.config import Decoding as Decoding
from pipelines.errors import UserError as UserError

if TYPE_CHECKING:
    from pipelines.recommend.load import load as load
    from pipelines.recommend.model import Model as Model

__all__ = ["Decoding", "Model", "UserError", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from pipelines.recommend.load import load

        return load
    if name == "Model":
        from pipelines.recommend.model import Model

        return Model
    raise AttributeError(f"module 'maskgr' has no attribute {name!r}")
