"""What a model can be asked for, and what it is asked for where a person leaves it open."""

from __future__ import annotations

import dataclasses

from pipelines.decode.config import Decoding, options
from pipelines.errors import UserError
from pipelines.models.interface import Recommender

EVERYONE = {"beams", "unseen", "retrieval"}  # settings that mean something to all models


def suited(decoding: Decoding, model: Recommender) -> Decoding:
    """The decoding with the model's own way of retrieval and order where none is given.

    Raises:
        UserError: a setting that means nothing to the model, an order or a way of retrieval that it cannot, or guidance by a
            model that has not learnt to do without a history.
    """
    name = model.config.name
    idle = [setting for setting in decoding.typed if setting not in EVERYONE | model.decoded_by]
    if idle:
        raise UserError(f"{options(idle)} means nothing to --model {name}. Leave it out.")
    if decoding.guidance and not model.config.forget:
        raise UserError("--guidance needs a run that has learnt to do without a history. Train one with: maskgr train --forget 0.1")
    chosen = {"retrieval": decoding.retrieval or model.retrievals[0]}
    if chosen["retrieval"] not in model.retrievals:
        raise UserError(f"--retrieval {decoding.retrieval} is nothing this run can do. {_instead(model, chosen['retrieval'])}")
    if chosen["retrieval"] in ("generative", "unified"):
        chosen["unmask"] = decoding.unmask or model.orders[0]
        if chosen["unmask"] not in model.orders:
            raise UserError(f"--unmask {decoding.unmask}: --model {name} reveals digits {' or '.join(model.orders)} only.")
    return dataclasses.replace(decoding, **chosen)


def _instead(model: Recommender, asked: str) -> str:
    if asked in ("dense", "unified") and hasattr(model.config, "dense"):
        return "It needs one that predicts text embeddings. Train one with: maskgr train --dense"
    return f"Its --model {model.config.name} knows {' and '.join(model.retrievals)}."
