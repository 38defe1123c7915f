"""Files of a run in training: config.json, history, checkpoint and best weights."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from pipelines import __version__, artifacts
from pipelines.models import loading
from pipelines.temporal import TemporalSplit
from pipelines.train import checkpoint
from pipelines.train.loop import Trainer
from pipelines.train.plan import Plan
from pipelines.train.settings_file import settings_of_plan, settings_text
from pipelines.workspace import FORMAT_VERSION, Run


class RunWriter:
    """Writer of the files of one run. Only the main process writes; the other processes wait for it.

    Attributes:
        dense_weight: weight of the dense score in unified retrieval, once it is chosen.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan,
        inputs: dict[str, Path],
        trainer: Trainer,
        items: int,
        digests: dict[str, str],
        shuffle: str,
        teachers: Mapping[str, str],
    ) -> None:
        """
        Args:
            run: run whose files are written.
            plan: plan of the run.
            inputs: artifacts that the training reads, by name.
            trainer: trainer of the run.
            items: N, number of items of the catalogue.
            digests: digests of these items, see `digests_of_items`.
            shuffle: order of the training sequences, "all" or "groups".
            teachers: sha256 of the weights of each teacher, by name of its run.
        """
        self.run, self.plan, self.inputs, self.trainer = run, plan, inputs, trainer
        self.items, self.digests, self.shuffle, self.teachers = items, digests, shuffle, teachers
        self.dense_weight: float | None = None
        self._split = None if plan.final else TemporalSplit.of(inputs["sequences"])
        self._started = time.monotonic()
        self._created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def save(self, is_best: bool) -> None:
        """Write checkpoint, history and configuration.

        Args:
            is_best: if true, the weights are the best so far and are written too.
        """
        if self.trainer.accelerator.is_main_process:
            if is_best:
                loading.save(self.trainer.unwrapped_model, self.run.weights)
            checkpoint.save(self.trainer, self.run.state)
            self._write_history()
            self.write_config("running")
        self.trainer.accelerator.wait_for_everyone()

    def save_diverged(self) -> None:
        """Write history and configuration of a training that diverged.

        Weights and checkpoint stay those of the last `save`.
        """
        if self.trainer.accelerator.is_main_process:
            self._write_history()
            self.write_config("diverged")
        self.trainer.accelerator.wait_for_everyone()

    def delete_earlier(self) -> None:
        """Delete the files of an earlier training in the same folder."""
        if self.trainer.accelerator.is_main_process:
            run = self.run
            for file in (run.config, run.settings, run.state, run.weights, run.history):
                file.unlink(missing_ok=True)

    def write_settings(self, of_final: bool) -> None:
        """Write train.toml, the configuration file that repeats the run; see `settings_of_plan`."""
        if self.trainer.accelerator.is_main_process:
            values = settings_of_plan(self.plan, self.run.name, of_final=of_final)
            comment = f"Repeat this run with: maskgr train --config {self.run.settings.name}"
            with artifacts.atomic(self.run.settings) as temporary:
                temporary.write_text(settings_text(values, comment), encoding="utf-8")

    def write_config(self, state: str) -> None:
        """Write config.json.

        Args:
            state: "running", "interrupted", "finished" or "diverged".
        """
        if not self.trainer.accelerator.is_main_process:
            return
        trained = self.trainer.state
        best = {"step": trained.best_step, "recall@10": trained.best} if trained.best >= 0 else None
        config = {
            "format": FORMAT_VERSION,
            **self.plan.to_dict(),
            "created": self._created,
            "state": state,
            "inputs": {
                name: {"path": os.path.relpath(path, self.run.path), "sha256": artifacts.digest(path)}
                for name, path in self.inputs.items()
            },
            "items": self.items,
            "catalogue": self.digests,
            "version": __version__,
            "commit": artifacts.commit(),
            "machine": artifacts.machine(),
            "shuffle": self.shuffle,
            **({"split": self._split.recorded()} if self._split else {}),
            **({"teachers": dict(self.teachers)} if self.teachers else {}),
            "processes": self.trainer.accelerator.num_processes,
            "steps": trained.step,
            "seconds": round(trained.seconds, 1),
            "best": best,
            **({} if self.dense_weight is None else {"dense_weight": self.dense_weight}),
            "weights": artifacts.digest(self.run.weights) if state == "finished" else None,
        }
        artifacts.write_json(self.run.config, config)

    def _write_history(self) -> None:
        """Write history.parquet if the history has an entry."""
        if not self.trainer.state.history:
            return
        step, measure, value = zip(*self.trainer.state.history, strict=True)
        table = pa.table(
            {"step": pa.array(step, pa.int64()), "measure": measure, "value": pa.array(value, pa.float64())}
        )
        artifacts.write(
            self.run.history,
            "history",
            table,
            config=self.plan.to_dict(),
            inputs=self.inputs,
            started=self._started,
        )
