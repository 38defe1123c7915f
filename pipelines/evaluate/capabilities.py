"""The settings of decoding that a model supports, and their values where the user leaves them open."""

from __future__ import annotations

import dataclasses

from pipelines.decode.config import CONFIDENCE, Decoding, options
from pipelines.errors import UserError
from pipelines.formats import finals_of
from pipelines.models.base import DigitModel, Recommender
from pipelines.models.registry import MODELS
from pipelines.options import has_no_effect
from pipelines.workspace import Run

ALL_MODELS = frozenset({"beams", "exclude_seen", "retrieval"})  # settings that every model supports
REASONS = {  # setting → why it has no effect on a model over semantic IDs that does not support it
    "approximate": "which encodes histories once anyway, exactly",
    "constrained": "whose item softmax gives what is no item no probability",
    "nearest": "whose item softmax gives what is no item no probability",
}


def unsupported(decoding: Decoding, model: Recommender) -> list[str]:
    """Return the names of the settings that differ from their defaults and have no effect on the model."""
    return [name for name in decoding.changed if name not in ALL_MODELS | model.decoding_options]


def without(decoding: Decoding, settings: list[str]) -> Decoding:
    """Return the decoding with the defaults of some settings."""
    kept = {f.name: getattr(decoding, f.name) for f in dataclasses.fields(decoding) if f.name not in settings}
    return Decoding(**kept)


def resolve_decoding(decoding: Decoding, model: Recommender, horizon: int = 1) -> Decoding:
    """Return the decoding with the model's defaults of retrieval, order, number of function evaluations and
    dense weight where they are open.

    An item softmax ranks the whole catalogue exactly in one function evaluation, which is then the default.

    Args:
        decoding: as the user gives it.
        model: model of the run.
        horizon: k.

    Raises:
        UserError: a setting has no effect on the model, the model supports neither the order nor the
            retrieval, or guidance is asked of a model that was not trained without histories.
    """
    name = model.config.name
    if settings := unsupported(decoding, model):
        raise has_no_effect(options(settings), _named(model), _reason(settings, model))
    if decoding.guidance and not model.config.guidable:
        raise UserError(
            "--guidance needs a run that was trained without histories too. Train one with: maskgr train "
            "--history-dropout 0.1"
        )
    retrieval = decoding.retrieval or model.retrievals[0]
    if retrieval not in model.retrievals:
        raise UserError(_unsupported_retrieval(model, retrieval))
    if not isinstance(model, DigitModel) or retrieval == "dense":
        return dataclasses.replace(decoding, retrieval=retrieval)
    order = decoding.unmask or model.orders[0]
    if order not in model.orders:
        raise UserError(f"--unmask {order}: --model {name} unmasks digits {' or '.join(model.orders)} only.")
    nfe = decoding.nfe
    if model.uses_item_softmax and horizon == 1 and decoding.unmask_counts is None:
        nfe = nfe or 1
    weight = decoding.dense_weight
    if retrieval == "unified" and weight is None:
        weight = model.dense_weight
    return dataclasses.replace(decoding, retrieval=retrieval, unmask=order, nfe=nfe, dense_weight=weight)


def refuse_final(run: Run) -> None:
    """Refuse to measure a final run.

    Raises:
        UserError: the run is a final run or a committee of final runs. The message names what to measure in
            its place.
    """
    config = run.read_config()
    originals = " ".join(finals_of(config))
    if originals and "members" in config:
        raise UserError(
            f"{run.name} is a committee of final runs: their training saw the items that eval tests on. "
            f"Measure a committee of their runs in its place: maskgr ensemble NAME {originals}"
        )
    if originals:
        raise UserError(
            f"{run.name} is a final run: its training saw the items that eval tests on. "
            f"Measure {originals} in its place: maskgr eval {originals}"
        )


def check_horizon(decoding: Decoding, model: Recommender, horizon: int) -> None:
    """Check that a decoding works for so many items at a time.

    Raises:
        UserError: it does not, or the unmask counts do not add up.
    """
    if not isinstance(model, DigitModel):
        return
    decoding.unmask_schedule(horizon * model.digits)
    if horizon > 1 and decoding.remask:
        raise UserError(f"--remask works on one item, not on the {horizon} of this run. Leave it out.")
    if horizon > 1 and decoding.order == CONFIDENCE:
        raise UserError(
            f"--unmask {CONFIDENCE} works on one item, not on the {horizon} of this run. Take another order."
        )


def _reason(settings: list[str], model: Recommender) -> str:
    """Return the reason why settings have no effect on a model; empty if they have none in common."""
    reasons = {REASONS.get(setting, "") for setting in settings}
    return reasons.pop() if isinstance(model, DigitModel) and len(reasons) == 1 else ""


def _unsupported_retrieval(model: Recommender, retrieval: str) -> str:
    if retrieval in ("dense", "unified") and hasattr(model.config, "dense"):
        return (
            f"--retrieval {retrieval} needs a run that predicts text embeddings. Train one with: maskgr "
            "train --dense"
        )
    supported = " and ".join(model.retrievals)
    return f"--retrieval {retrieval}: {_named(model)} supports {supported} alone."


def _named(model: Recommender) -> str:
    is_trained = model.config.name in MODELS
    return f"this run of --model {model.config.name}" if is_trained else f"this {model.config.name}"
