"""The training loop, on Accelerate: the same steps on one CPU, one GPU or several.

The sequences, the masks and the dropout of a step depend on the seed and the step's number alone. The loss is
normalized over the whole step. Therefore neither the split into forward passes nor a resume changes a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from pipelines.data.sequences import Sequences
from pipelines.errors import TrainingDiverged
from pipelines.models.base import CountedModel, Recommender
from pipelines.models.objectives.soft_targets import SoftTargets
from pipelines.processes import Processes
from pipelines.progress import Progress, Task
from pipelines.train.batches import Batches, Windows, split_step
from pipelines.train.config import TrainConfig
from pipelines.train.draw import draw
from pipelines.train.gradients import Gradients
from pipelines.train.interrupt import Stopped, stop_signals
from pipelines.train.losses import Losses
from pipelines.train.optimizers import optimizers
from pipelines.train.pace import Pace
from pipelines.train.schedule import learning_rate
from pipelines.train.state import State
from pipelines.train.streamed import StreamedBatches

RECORD_EVERY = 20  # steps between two records of the training loss
PROGRESS_TOTAL = 1000  # length of the progress bar of a training
# Tokens in one forward pass: they fit into the cache of a CPU, or occupy a GPU.
MICRO_TOKENS = {"cpu": 2048, "cuda": 32768}


class Trainer:
    """Trainer of one model: its optimizers, batches and state.

    Attributes:
        model: the model, wrapped by Accelerate.
        last_step: step after which the training ends before its budget is used; None for its whole budget.
        micro_tokens: largest number of tokens in one forward pass.
        tokens_per_item: number of tokens that the transformer computes for an item.
        stop_signal: number of the signal that a process received during the training; 0 if none did.
    """

    def __init__(
        self,
        model: Recommender,
        batches: Batches | StreamedBatches,
        config: TrainConfig,
        accelerator: Accelerator,
        last_step: int | None = None,
    ) -> None:
        self.config, self.batches, self.accelerator, self.last_step = config, batches, accelerator, last_step
        self.state = State()
        self.stop_signal = 0
        self.gradients = Gradients(model, accelerator)
        self._received: list[int] = []  # signals that this process received during the training
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in optimizers(model, config)]
        # Without a gradient there is nothing for DistributedDataParallel to do, which refuses it.
        is_counted = isinstance(model, CountedModel)
        self.model = model.to(accelerator.device) if is_counted else accelerator.prepare(model)
        default_tokens = MICRO_TOKENS.get(accelerator.device.type, MICRO_TOKENS["cuda"])
        self.micro_tokens = config.micro_tokens or default_tokens
        self.tokens_per_item = model.streams * model.tokens_per_item
        self._validation_seconds = 0.0  # duration of the last validation
        self._counted_until = 0.0  # time.monotonic() up to which `state.seconds` counts
        self._cpu_group = None  # the processes, communicating through their CPUs
        if accelerator.num_processes > 1:
            self._cpu_group = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=1))

    @property
    def unwrapped_model(self) -> Recommender:
        """The model without Accelerate's wrapper."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def budget_fraction(self) -> float:
        """Fraction of the steps or minutes that is used, 0 to 1; the minutes include one more validation."""
        config, state = self.config, self.state
        by_steps = state.step / config.steps if config.steps else 0.0
        by_time = 0.0
        if config.minutes:
            by_time = state.seconds / max(1e-9, config.minutes * 60 - self._validation_seconds)
        return min(1.0, self._max_over_processes(max(by_steps, by_time)))

    @property
    def done_fraction(self) -> float:
        """Fraction of the training that is done, 0 to 1."""
        by_steps = self.state.step / self.last_step if self.last_step else 0.0
        return min(1.0, max(by_steps, self.budget_fraction))

    def fit(
        self,
        validate: Callable[[], float] | None,
        checkpoint: Callable[[bool], None],
        progress: Progress,
        should_prune: Callable[[int, float], bool] | None = None,
    ) -> bool:
        """Train until the steps or minutes are used, or until `patience` validations in a row were no better.

        Args:
            validate: computes the Recall@10 of the model; None if there is nothing to validate on, so that
                the last weights count as the best.
            checkpoint: saves the training; its argument is True if the weights are the best so far.
            progress: receives messages and progress.
            should_prune: called after each validation with its number and its Recall@10; True ends the
                training.

        Returns:
            True if the training is finished; False if a signal stopped it: within a validation, within a step
            of a single process, or after a step. Then the training is saved, and goes on with that validation
            or step once it is resumed.
            `stop_signal` is the signal; a finished training has one too if the signal came too late.

        Raises:
            TrainingDiverged: A loss, a gradient or a weight is not finite. Nothing is validated or saved
                after that.
        """

        def end_of_validation() -> bool:
            """Validate, save, and return True if the training ends."""
            done = self.done_fraction
            is_best = self.validate(validate) if validate else self._pass_validation(done)
            self._count_seconds()
            checkpoint(is_best)
            progress.say(self.state.summary(self.done_fraction))
            return self._is_finished(done, progress, should_prune)

        with progress.task("Training", total=PROGRESS_TOTAL) as task, stop_signals() as self._received:
            self._counted_until = time.monotonic()
            try:
                self._train(end_of_validation, progress, task)
            except Stopped:
                checkpoint(False)
                return False
            self.is_stopped()  # a signal that came too late
            return True

    def _train(self, end_of_validation: Callable[[], bool], progress: Progress, task: Task) -> None:
        """Train until a validation ends the training. A counted model has one step and one validation.

        Args:
            end_of_validation: validates, saves, and returns True if the training ends.
            progress: receives messages.
            task: receives the part of the training that is done.

        Raises:
            Stopped: A process received a signal.
            TrainingDiverged: A loss, a gradient or a weight is not finite.
        """
        model = self.unwrapped_model
        if isinstance(model, CountedModel):
            if not self.state.step:
                self._count(model, progress)
            end_of_validation()
            return
        losses = Losses(self.accelerator)
        pace = Pace(self.last_step or self.config.steps, self.config.minutes)
        if self.state.step and self._validation_is_due() and end_of_validation():
            return  # a signal had interrupted this validation
        for step, windows, rows in self.batches.steps(self.state.step):
            try:
                loss, tokens = self.training_step(step, windows, rows)
            except Stopped:
                self._check_finite(losses)
                raise
            losses.add(loss)
            self.state.step, self.state.tokens = step + 1, self.state.tokens + tokens
            self._count_seconds()
            done, validation_is_due = self.done_fraction, self._validation_is_due()
            is_stopped = self.is_stopped()
            if validation_is_due or is_stopped:
                self._check_finite(losses)
            if self.state.step % RECORD_EVERY == 0 or step == 0 or done >= 1:
                self._record(losses)
                task.update(done * PROGRESS_TOTAL, note=self.state.summary(self.done_fraction))
            if estimate := pace.estimate(self.state.step, self.state.seconds):
                progress.say(estimate)
            if is_stopped:
                raise Stopped
            if validation_is_due and end_of_validation():
                return

    def _count(self, model: CountedModel, progress: Progress) -> None:
        """Fit a counted model: the only step of its training.

        Raises:
            Stopped: This process, the only one, received a signal.
        """

        def read(_: int, sequences: Sequences) -> Sequences:
            if self.accelerator.num_processes == 1:  # several have different numbers of groups
                self.end_if_stopped()
            return sequences

        model.count(self.batches.groups.mapped(read), Processes.on_cpus())
        self._count_seconds()
        self.state.step = 1
        self.state.history.append((1, "seconds", self.state.seconds))
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        progress.say(f"Counted in {self.state.seconds:.1f} s: {size / 2**20:,.1f} MiB.")

    def is_stopped(self) -> bool:
        """Return True if a process has received a signal; all processes call this together and agree."""
        self.stop_signal = int(self._max_over_processes(float(max(self._received, default=0))))
        return self.stop_signal > 0

    def end_if_stopped(self) -> None:
        """End the training if a process has received a signal; all processes call this together.

        Raises:
            Stopped: A process has received a signal.
        """
        if self.is_stopped():
            raise Stopped

    def _validation_is_due(self) -> bool:
        """Return True if the training has reached the next validation; all processes call this together."""
        return self.done_fraction >= min(1.0, (self.state.validated + 1) / self.config.validations)

    def training_step(self, step: int, windows: Windows, rows: np.ndarray) -> tuple[Tensor, int]:
        """Do one optimizer step.

        Args:
            step: number of the step.
            windows: windows of the epoch.
            rows: rows of the windows that the step trains on, over all processes, int64 [B].

        Returns:
            This process's part of the loss, a scalar on its device, NaN if the gradient is not finite; and
            the number of tokens of the step, over all processes.

        Raises:
            Stopped: This process, the only one, received a signal. The weights are those before the step.
        """
        config, accelerator = self.config, self.accelerator
        batch, normalizer, soft = draw(
            self.unwrapped_model, config, windows, rows, step, self.batches.max_items
        )
        torch.manual_seed(
            (config.seed * 1_000_003 + step) * accelerator.num_processes + accelerator.process_index
        )
        rate = learning_rate(config, self.budget_fraction)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        lengths = (batch[0] >= 0).sum(1)  # [B]
        loss = self._backward(batch, soft, lengths, accelerator.num_processes / normalizer)
        norm = self.gradients.clip(config.grad_clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return torch.where(norm.isfinite(), loss, math.nan), int(lengths.sum()) * self.tokens_per_item

    def _backward(
        self, batch: tuple[np.ndarray, ...], soft: SoftTargets | None, lengths: np.ndarray, scale: float
    ) -> Tensor:
        """Accumulate the gradients of this process's rows of a step, one forward pass after another.

        Args:
            batch: arguments of the model's `forward`, [B, n, …] each.
            soft: soft targets of the items; None without teachers.
            lengths: number of items of each row, int64 [B].
            scale: factor of the loss. It includes the number of processes, because Accelerate averages
                gradients over processes.

        Returns:
            Sum of the scaled losses, a scalar.
        """
        accelerator = self.accelerator
        order = np.argsort(-lengths, kind="stable")
        own_rows = order[accelerator.process_index :: accelerator.num_processes]
        micro_items = max(1, self.micro_tokens // self.tokens_per_item)
        passes = [own_rows[part] for part in split_step(lengths[own_rows], micro_items)]
        total = torch.zeros((), device=accelerator.device)
        self.model.train()
        for number, rows in enumerate(passes):
            if accelerator.num_processes == 1:  # several have different numbers of passes
                self.end_if_stopped()
            n = int(lengths[rows].max())
            is_last = number == len(passes) - 1
            synchronization = nullcontext() if is_last else accelerator.no_sync(self.model)
            with synchronization, accelerator.autocast():
                taught = {} if soft is None else {"soft": soft.at(soft.places[rows, -n:])}
                loss = self.model(*(array[rows, -n:] for array in batch), **taught) * scale
            accelerator.backward(loss)
            total = total + loss.detach()
        return total

    def validate(self, measure_recall: Callable[[], float]) -> bool:
        """Measure Recall@10 on the validation users, and return True if it is the best so far."""
        started = time.monotonic()
        state = self.state
        recall = measure_recall()
        state.validated = max(state.validated + 1, int(self.budget_fraction * self.config.validations))
        state.history.append((state.step, "recall@10", recall))
        self.accelerator.log({"recall@10": recall}, step=state.step)
        is_best = recall > state.best
        state.since_best = 0 if is_best else state.since_best + 1
        if is_best:
            state.best, state.best_step = recall, state.step
        self._validation_seconds = time.monotonic() - started
        return is_best

    def _pass_validation(self, done: float) -> bool:
        """Count a validation that does not take place, and return True at the end of the training."""
        self.state.validated += 1
        return done >= 1

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._counted_until
        self._counted_until = now

    def _record(self, losses: Losses) -> None:
        """Record the mean loss of the steps since the last record; waits for the device.

        Raises:
            TrainingDiverged: A loss is not finite.
        """
        state = self.state
        values = {
            "loss": losses.take_mean(state.step),
            "learning_rate": learning_rate(self.config, self.budget_fraction),
            "seconds": state.seconds,
            "tokens": float(state.tokens),
        }
        state.history.extend((state.step, name, value) for name, value in values.items())
        self.accelerator.log(values, step=state.step)

    def _check_finite(self, losses: Losses) -> None:
        """Check losses and weights before a validation or a checkpoint; waits for the device.

        Raises:
            TrainingDiverged: A loss, a gradient or a weight is not finite.
        """
        losses.check(self.state.step)
        weights = [weight.detach() for weight in self.unwrapped_model.parameters()]
        largest = torch.stack([torch.linalg.vector_norm(weight, ord=math.inf) for weight in weights])
        if self._max_over_processes(float(not largest.isfinite().all())):
            raise TrainingDiverged(f"weights are not finite after step {self.state.step}")

    def _is_finished(
        self,
        done: float,
        progress: Progress,
        should_prune: Callable[[int, float], bool] | None,
    ) -> bool:
        """Return True if the training ends after the last validation, and report why."""
        state, patience = self.state, self.config.patience
        if done >= 1:
            self._report_rising(progress)
            return True
        if patience and state.since_best >= patience:
            progress.say(
                f"Ended at step {state.step}: {patience} validations in a row without a better one "
                "(--patience)."
            )
            return True
        return bool(should_prune and should_prune(state.validated, state.history[-1][2]))

    def _report_rising(self, progress: Progress) -> None:
        """Report that --minutes ended the training although the last validation was the best."""
        state, config = self.state, self.config
        by_time = config.minutes is not None and (config.steps is None or state.step < config.steps)
        if by_time and state.since_best == 0:
            of_steps = f" of {config.steps:,}" if config.steps else ""
            progress.say(
                f"Validation was still rising when --minutes {config.minutes:g} ended the training "
                f"at step {state.step:,}{of_steps}: give it more time."
            )

    def _max_over_processes(self, value: float) -> float:
        """Return the largest value over the processes, so that all decide alike; no device is waited for."""
        if self._cpu_group is None:
            return value
        largest = torch.tensor(value, dtype=torch.float64)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, self._cpu_group)
        return largest.item()
