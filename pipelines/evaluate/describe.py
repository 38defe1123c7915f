"""Descriptions of evaluations, in a line."""

from __future__ import annotations

from pipelines.decode.config import Decoding
from pipelines.models.base import DigitModel
from pipelines.models.loading import TrainedRun
from pipelines.temporal import TemporalSplit
from pipelines.workspace import Dataset


def describe(trained: TrainedRun, decoding: Decoding) -> str:
    """Describe data set, model and decoding, with the number of digits that each evaluation unmasks."""
    model, dataset = trained.model, described_data(trained.dataset)
    traits = "".join(f" · {trait}" for trait in model.config.traits)
    excluded = ", seen items excluded" if decoding.exclude_seen else ""
    size = f"{decoding.beams} of {trained.catalogue.items:,} items"
    if decoding.retrieval == "ranking" or not isinstance(model, DigitModel):
        steps = f", {_evaluations(decoding.nfe)}" if decoding.nfe else ""
        return f"{dataset}{traits} · {size}{steps}{_guidance(decoding)}{excluded}"
    if decoding.retrieval == "dense":
        predicted = f"text embeddings predicted by {model.config.dense_from}"
        return f"{dataset} · {predicted} · dense retrieval, {size}{excluded}"
    horizon = trained.horizon
    items = f" · {horizon} items ahead, average session recall" if horizon > 1 else ""
    digits = f"{model.digits} digits of {model.codes} codes"
    return f"{dataset}{items}{traits} · {digits} · {_beams(decoding, horizon * model.digits)}{excluded}"


def described_data(dataset: Dataset) -> str:
    """Return the name of a data set, and the kind of its split if that is not leave-one-out."""
    return dataset.name + ", temporal split" * (TemporalSplit.of(dataset.sequences) is not None)


def describe_new_items(trained: TrainedRun, run: str) -> str:
    """Describe how a run ranks the items that it was not trained on; empty if there are none.

    Args:
        trained: the loaded run.
        run: its name.
    """
    new = len(trained.new_items)
    if not new:
        return ""
    by_codes = "sids" in trained.model.config.needs
    how = "scored by their semantic IDs" if by_codes else "ranked last, because it has no vectors for them"
    return f"{new:,} of {trained.catalogue.items:,} items are new to {run}: {how}."


def _beams(decoding: Decoding, digits: int) -> str:
    """Describe a beam search over so many digits."""
    schedule = decoding.unmask_schedule(digits)
    unmasked = f"{'+'.join(map(str, schedule))} digits"
    unmasked += f", then {decoding.remask} remasked" if decoding.remask else ""
    parts = [
        f"{decoding.order}, {_evaluations(len(schedule) + decoding.remask)} ({unmasked})",
        f"{decoding.beams} beams",
        "constrained" if decoding.constrained else "unconstrained",
        *["then the nearest items"] * decoding.nearest,
    ]
    text = ", ".join(parts) + _guidance(decoding)
    text += ", histories encoded once (approximate)" if decoding.approximate else ""
    if decoding.retrieval != "unified":
        return text
    weight = "" if decoding.dense_weight in (None, 1) else f" with dense weight {decoding.dense_weight:g}"
    return f"unified retrieval{weight}: {text}"


def _evaluations(count: int) -> str:
    return f"{count} function evaluation{'s' * (count > 1)}"


def _guidance(decoding: Decoding) -> str:
    return f", guidance {decoding.guidance:g}" if decoding.guidance else ""
