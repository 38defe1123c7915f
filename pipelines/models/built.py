"""Models built from their configurations, and as the config.json of a run records them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines.data.catalogue import Catalogue, load_catalogue, sources, text_behind
from pipelines.errors import UserError, is_out_of_memory
from pipelines.models.base import Recommender
from pipelines.models.committee import Committee, committee_of
from pipelines.models.config import ModelConfig
from pipelines.models.registry import model_config
from pipelines.workspace import Dataset, RunConfig


def build(config: ModelConfig, catalogue: Catalogue) -> Recommender:
    """Return a new model over a catalogue that holds what the model needs.

    Raises:
        UserError: the model does not fit into memory.
    """
    module, name = config.implementation.split(":")
    try:
        model: Recommender = getattr(importlib.import_module(module), name)(config, catalogue)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "The model does not fit into memory. Take a smaller --width, --mlp or --layers."
        ) from None
    return model


@dataclass(frozen=True, eq=False)
class Recorded:
    """One model as a run's config.json says, and the data that it needs.

    Attributes:
        training: configuration of its training.
        config: configuration of the model.
        catalogue: of the data set.
        inputs: files that the model depends on, by kind.
    """

    training: RunConfig
    config: ModelConfig
    catalogue: Catalogue
    inputs: dict[str, Path]

    @staticmethod
    def of(dataset: Dataset, training: RunConfig) -> Recorded:
        """Read the data that the model of a training needs.

        Raises:
            UserError: a file is missing or does not fit.
        """
        config, sids = model_config(training["model"], training["model_settings"]), training["sids"]
        catalogue = load_catalogue(dataset, sids, config.needs)
        return Recorded(training, config, catalogue, sources(dataset, sids, config.needs))


@dataclass(frozen=True, eq=False)
class Assembled:
    """The model of a run, and its parts: the model itself, or the members of a committee.

    Attributes:
        model: without the weights of the run.
        parts: as they are recorded; a committee has one for each member.
        lead: number of the part whose semantic IDs the model decodes.
    """

    model: Recommender
    parts: list[Recorded]
    lead: int = 0

    @staticmethod
    def of(parts: list[Recorded], config: RunConfig) -> Assembled:
        """Build the model of a run.

        Args:
            parts: a part for each of `formats.trainings`.
            config: content of config.json.

        Raises:
            UserError: the model does not fit into memory.
        """
        models = [build(part.config, part.catalogue) for part in parts]
        if "members" not in config:
            return Assembled(models[0], parts)
        committee = committee_of(models, [member["weight"] for member in config["members"]])
        return Assembled(committee, parts, committee.lead)

    @property
    def catalogue(self) -> Catalogue:
        return self.parts[self.lead].catalogue

    @property
    def inputs(self) -> dict[str, Path]:
        """Files that the model depends on, by kind; those that only other parts need have a number behind."""
        found = dict(self.parts[self.lead].inputs)
        for number, part in enumerate(self.parts, start=1):
            others = {kind: path for kind, path in part.inputs.items() if path not in found.values()}
            found |= {f"{kind} of member {number}": path for kind, path in others.items()}
        return found

    def rank_new_items(self, items: np.ndarray) -> None:
        """Prepare the ranking of items that a model with its weights was not trained on; see
        `Recommender.rank_new_items`.

        Args:
            items: int64, ascending; may be empty.
        """
        models = self.model.models if isinstance(self.model, Committee) else [self.model]
        for model, part in zip(models, self.parts, strict=True):
            rank_new_items(model, items, part.catalogue, part.inputs.get("sids"))


def rank_new_items(model: Recommender, items: np.ndarray, catalogue: Catalogue, sids: Path | None) -> None:
    """Prepare the ranking of items that a model was not trained on; see `Recommender.rank_new_items`.

    Args:
        model: with its weights.
        items: int64, ascending; may be empty.
        catalogue: of the model.
        sids: file of the semantic IDs; None if there are none.
    """
    if not len(items):
        return
    text = catalogue.text
    if text is None and sids is not None:
        text = text_behind(sids)
    model.rank_new_items(torch.as_tensor(items), text)
