"""What a model can be asked for, and what it is asked for where a person leaves it open."""

from __future__ import annotations

import dataclasses

from pipelines.decode.config import Decoding, options
from pipelines.errors import UserError
from pipelines.models.base import Recommender

EVERYONE = {"beams", "exclude_seen", "retrieval"}  # settings that mean something to all models


def unsupported(decoding: Decoding, model: Recommender) -> list[str]:
    """The settings that were given and mean nothing to the model."""
    return [setting for setting in decoding.typed if setting not in EVERYONE | model.decoding_options]


def without(decoding: Decoding, settings: list[str]) -> Decoding:
    """The decoding with the defaults of some settings."""
    return dataclasses.replace(
        decoding, **{f.name: f.default for f in dataclasses.fields(decoding) if f.name in settings}
    )


def resolve_decoding(decoding: Decoding, model: Recommender) -> Decoding:
    """The decoding with the model's own way of retrieval and order where none is given.

    Raises:
        UserError: a setting that means nothing to the model, an order or a way of retrieval that it cannot, or guidance by a
            model that has not learnt to do without a history.
    """
    name = model.config.name
    if idle := unsupported(decoding, model):
        raise UserError(f"{options(idle)} means nothing to --model {name}. Leave it out.")
    if decoding.guidance and not model.config.history_dropout:
        raise UserError(
            "--guidance needs a run that has learnt to do without a history. Train one with: maskgr train --history-dropout 0.1"
        )
    chosen = {"retrieval": decoding.retrieval or model.retrievals[0]}
    if chosen["retrieval"] not in model.retrievals:
        raise UserError(_unable(model, chosen["retrieval"]))
    if chosen["retrieval"] in ("generative", "unified"):
        chosen["unmask"] = decoding.unmask or model.orders[0]
        if chosen["unmask"] not in model.orders:
            raise UserError(
                f"--unmask {decoding.unmask}: --model {name} reveals digits {' or '.join(model.orders)} only."
            )
    return dataclasses.replace(decoding, **chosen)


def _unable(model: Recommender, asked: str) -> str:
    if asked in ("dense", "unified") and hasattr(model.config, "dense"):
        return f"--retrieval {asked} needs a run that predicts text embeddings. Train one with: maskgr train --dense"
    return f"--retrieval {asked} is nothing this run can do. Its --model {model.config.name} knows {' and '.join(model.retrievals)}."
