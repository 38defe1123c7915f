"""Validation during training: Recall@10 of the model on the validation targets of users."""

from __future__ import annotations

import numpy as np
import torch

from pipelines.data.catalogue import Catalogue
from pipelines.data.held_out import HeldOut
from pipelines.data.splits import Split
from pipelines.decode.build_index import build_index
from pipelines.decode.config import Decoding
from pipelines.decode.sid_index import SidIndex
from pipelines.evaluate.capabilities import resolve_decoding
from pipelines.evaluate.dense_weight import choose_dense_weight
from pipelines.evaluate.metrics import rank_targets
from pipelines.evaluate.recommend import recommend_chunks
from pipelines.models import loading
from pipelines.models.base import DigitModel, Recommender
from pipelines.processes import Processes
from pipelines.progress import Progress, Silent
from pipelines.train.loop import Trainer
from pipelines.train.memory import release_unused


class Validator:
    """Validation of a model in training.

    Attributes:
        all_users: number of users with a target in the validation.
        split: histories and targets of the users that validation uses: all users, or a random sample.
        decoding: decoding of the recommendations.
    """

    def __init__(
        self,
        trainer: Trainer,
        everyone: Split | HeldOut,
        catalogue: Catalogue,
        known: np.ndarray | None = None,
    ) -> None:
        """
        Args:
            trainer: trainer of the model.
            everyone: histories and targets of all users.
            catalogue: all items, which are the candidates.
            known: items that the model in training is over, int64 [N']; None for all items.
        """
        config, model = trainer.config, trainer.unwrapped_model
        self.all_users = len(everyone)
        self.split = everyone.sample(config.validation_users or len(everyone), config.seed)
        decoding = Decoding(beams=config.validation_beams, nfe=model.validation_nfe)
        self.decoding = resolve_decoding(decoding, model, config.horizon)
        self._trainer, self._known = trainer, known
        self._over_all_items: Recommender | None = None
        if known is not None:
            self._over_all_items = loading.build(model.config, catalogue).to(trainer.accelerator.device)
            new = torch.as_tensor(np.setdiff1d(np.arange(catalogue.items), known))
            self._over_all_items.rank_new_items(new, catalogue.text)
        self._index: SidIndex | None = None
        if isinstance(model, DigitModel):
            sids = catalogue.require_sids()
            self._index = build_index(sids, catalogue.codes, self.decoding.reachable(sids.shape[1]))

    @property
    def index_bytes(self) -> int:
        """Size of the index of partial semantic IDs; 0 without one."""
        return self._index.bytes if self._index else 0

    def recall(self) -> float:
        """Compute Recall@10, a fraction, with the work shared by all processes.

        Raises:
            Stopped: A process has received a signal.
        """
        release_unused()
        hits = targets = 0
        with self._trainer.accelerator.autocast():
            found = recommend_chunks(
                self._model(),
                self.split,
                self._index,
                self.decoding,
                Silent(),
                processes=Processes.started(),
                before_batch=self._trainer.end_if_stopped,
            )
            for split, recommendations in found:
                ranks = rank_targets(recommendations.items[:, :10], split.targets)
                hits += np.count_nonzero(ranks)
                targets += ranks.size
        return hits / targets

    def dense_weight(self, model: DigitModel, progress: Progress) -> float:
        """Choose the weight of the dense score in unified retrieval; see `choose_dense_weight`.

        Args:
            model: over all items, with the weights that the training ends with.
            progress: where progress is reported.
        """
        assert self._index, "dense retrieval goes with semantic IDs"
        with self._trainer.accelerator.autocast():
            return choose_dense_weight(
                model, self.split, self._index, progress, processes=Processes.started()
            )

    def _model(self) -> Recommender:
        """Return the model in training, over all items."""
        model = self._trainer.unwrapped_model
        if self._over_all_items is None or self._known is None:
            return model
        loading.place_weights(self._over_all_items, model.state_dict(), self._known)
        return self._over_all_items
