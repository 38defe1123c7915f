"""The training loop, on Accelerate: one CPU, one GPU or many, the same steps everywhere.

A step's sequences, masks and dropout depend on the seed and the step's number alone, and its loss is
normalised over the whole step, so that neither the cut into forward passes nor a resume changes it.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from pipelines.errors import TrainingDiverged
from pipelines.models.base import Recommender
from pipelines.progress import Progress
from pipelines.train.batches import Batches, Windows, cut
from pipelines.train.config import TrainConfig
from pipelines.train.optimizers import optimizers
from pipelines.train.pace import Pace

RECORD_EVERY = 20  # steps between two records of the training loss
MICRO_TOKENS = {"cpu": 2048, "cuda": 32768}  # in one forward pass: what a cache holds, what keeps a GPU busy


@dataclass
class State:
    """All that a resume needs besides weights and optimiser."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    validated: int = 0
    best: float = -1.0
    best_step: int = 0
    since_best: int = 0
    history: list[tuple[int, str, float]] = field(default_factory=list)


class Trainer:
    """One run's model, optimisers and state."""

    def __init__(
        self, model: Recommender, batches: Batches, config: TrainConfig, accelerator: Accelerator
    ) -> None:
        self.config, self.batches, self.accelerator = config, batches, accelerator
        self.state = State()
        self.stopped = 0
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in optimizers(model, config)]
        self.model = accelerator.prepare(model)
        self.micro_tokens = config.micro_tokens or MICRO_TOKENS.get(
            accelerator.device.type, MICRO_TOKENS["cuda"]
        )
        self.tokens_per_item = model.streams * model.tokens_per_item
        self._reserved = 0.0  # seconds that the last validation will take
        several = accelerator.num_processes > 1
        self._hosts = (
            torch.distributed.new_group(backend="gloo", timeout=timedelta(days=1)) if several else None
        )

    @property
    def unwrapped_model(self) -> Recommender:
        """The model without Accelerate's wrapping."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def budget_fraction(self) -> float:
        """Share of the budget used up, 0 to 1."""
        config, state = self.config, self.state
        by_steps = state.step / config.steps if config.steps else 0.0
        by_time = state.seconds / max(1e-9, config.minutes * 60 - self._reserved) if config.minutes else 0.0
        return min(1.0, self._agreed(max(by_steps, by_time)))

    def rate(self, budget_fraction: float) -> float:
        """The learning rate: a linear rise over the warm-up, its peak until `decay` is left, then a fall to `final_rate` of it."""
        config = self.config
        if budget_fraction < config.warmup:
            return config.learning_rate * max(budget_fraction / config.warmup, 1e-2)
        begins = max(config.warmup, 1 - config.decay)
        fallen = max(0.0, budget_fraction - begins) / max(1e-9, 1 - begins)
        left = 1 - fallen if config.decay_shape == "linear" else (1 + math.cos(math.pi * fallen)) / 2
        return config.learning_rate * (config.final_rate + (1 - config.final_rate) * left)

    def fit(
        self,
        validate: Callable[[], float],
        checkpoint: Callable[[bool], None],
        progress: Progress,
        should_prune: Callable[[int, float], bool] | None = None,
    ) -> bool:
        """Train until the budget is used up or patience ends.

        Args:
            validate: measures the model as it is.
            checkpoint: saves; called with True where the weights are the best so far.
            hopeless: told the number of each validation and its result; the training ends where it returns True.

        Returns:
            False where Ctrl-C (or a termination signal) stopped it, and `stopped` is the signal; the state is saved then too.

        Raises:
            TrainingDiverged: a loss, a gradient or a weight is not finite; nothing is validated or saved since.
        """
        total, last = 1000, time.monotonic()
        losses: list[Tensor] = []
        pace = Pace(self.config)
        with progress.task("Training", total=total) as task, _stop_signal() as stopped:
            for step, windows, rows in self.batches.steps(self.state.step):
                loss, tokens = self._step(step, windows, rows)
                losses.append(loss)
                now = time.monotonic()
                self.state.step, self.state.tokens = step + 1, self.state.tokens + tokens
                self.state.seconds, last = self.state.seconds + now - last, now
                budget_fraction, self.stopped = (
                    self.budget_fraction,
                    int(self._agreed(float(max(stopped, default=0)))),
                )
                due = (
                    budget_fraction >= 1
                    or budget_fraction >= (self.state.validated + 1) / self.config.validations
                )
                if due or self.stopped:
                    self._check(losses)
                if self.state.step % RECORD_EVERY == 0 or step == 0 or budget_fraction >= 1:
                    self._record(losses, budget_fraction)
                    task.update(budget_fraction * total, note=self._note())
                if estimate := pace.estimate(self.state.step, self.state.seconds):
                    progress.say(estimate)
                if self.stopped:
                    checkpoint(False)
                    return False
                if due:
                    better = self._validate(validate)
                    self.state.seconds, last = self.state.seconds + time.monotonic() - last, time.monotonic()
                    checkpoint(better)
                    progress.say(self._note())
                    ended = budget_fraction >= 1 or self._out_of_patience
                    if ended and (reason := self._reason(budget_fraction)):
                        progress.say(reason)
                    if ended or (
                        should_prune and should_prune(self.state.validated, self.state.history[-1][2])
                    ):
                        return True
        return True

    def _step(self, step: int, windows: Windows, rows: np.ndarray) -> tuple[Tensor, int]:
        """One optimiser step: this process's part of its loss, on its device, and the tokens it took, over all processes.

        The loss of a step whose gradient is not finite is NaN.
        """
        config, accelerator = self.config, self.accelerator
        model = self.model
        items = windows.padded(rows, self.batches.max_items)  # [B, n]
        rng = np.random.default_rng([config.seed, 1, step])
        drawn = self.unwrapped_model.make_training_batch(items, rng, config.horizon)  # [B, n, ...] each
        items, weights = drawn[:2]
        if self.unwrapped_model.uses_user_ids:
            drawn = (*drawn, windows.users[rows, None])
        normalizer = float(weights.sum(dtype=np.float64)) or 1.0
        torch.manual_seed(
            (config.seed * 1_000_003 + step) * accelerator.num_processes + accelerator.process_index
        )
        rate = self.rate(self.budget_fraction)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        lengths = (items >= 0).sum(1)
        mine = np.argsort(-lengths, kind="stable")[accelerator.process_index :: accelerator.num_processes]
        pieces = [
            mine[piece] for piece in cut(lengths[mine], max(1, self.micro_tokens // self.tokens_per_item))
        ]
        loss = torch.zeros((), device=accelerator.device)
        scale = accelerator.num_processes / normalizer  # gradients are averaged over processes
        model.train()
        for number, piece in enumerate(pieces):
            n = int(lengths[piece].max())
            with (
                nullcontext() if number == len(pieces) - 1 else accelerator.no_sync(model),
                accelerator.autocast(),
            ):
                part = model(*(array[piece, -n:] for array in drawn)) * scale
            accelerator.backward(part)
            loss = loss + part.detach()
        norm = accelerator.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return torch.where(norm.isfinite(), loss, math.nan), int(lengths.sum()) * self.tokens_per_item

    def _validate(self, validate: Callable[[], float]) -> bool:
        began = time.monotonic()
        state = self.state
        value = validate()
        state.validated = max(state.validated + 1, int(self.budget_fraction * self.config.validations))
        state.history.append((state.step, "recall@10", value))
        self.accelerator.log({"recall@10": value}, step=state.step)
        better = value > state.best
        state.since_best = 0 if better else state.since_best + 1
        if better:
            state.best, state.best_step = value, state.step
        self._reserved = time.monotonic() - began
        return better

    def _record(self, losses: list[Tensor], budget_fraction: float) -> None:
        """Note what the steps since the last record did; until here nobody has waited for the device."""
        state = self.state
        seen = {
            "loss": math.fsum(self._finite(losses)) / len(losses),
            "learning_rate": self.rate(budget_fraction),
            "seconds": state.seconds,
            "tokens": float(state.tokens),
        }
        losses.clear()
        state.history.extend((state.step, name, value) for name, value in seen.items())
        self.accelerator.log(seen, step=state.step)

    def _finite(self, losses: list[Tensor]) -> list[float]:
        """The losses of the last steps, means over the processes.

        Raises:
            TrainingDiverged: one is not finite.
        """
        values = self.accelerator.reduce(torch.stack(losses), "mean").tolist() if losses else []
        for number, value in enumerate(values, start=self.state.step - len(values) + 1):
            if not math.isfinite(value):
                raise TrainingDiverged(f"the loss or its gradient is not finite at step {number}")
        return values

    def _check(self, losses: list[Tensor]) -> None:
        """See that nothing is wrong with what is about to be validated or saved: here the device is waited for.

        Raises:
            TrainingDiverged: a loss, a gradient or a weight is not finite.
        """
        self._finite(losses)
        finite = (
            torch.stack([weight.isfinite().all() for weight in self.unwrapped_model.parameters()])
            .all()
            .item()
        )
        if self._agreed(float(not finite)):
            raise TrainingDiverged(f"weights are not finite after step {self.state.step}")

    @property
    def _out_of_patience(self) -> bool:
        return bool(self.config.patience) and self.state.since_best >= self.config.patience

    def _reason(self, budget_fraction: float) -> str | None:
        """What a person should know of why the training ends here; None where its steps are done."""
        state, config = self.state, self.config
        if budget_fraction < 1:
            return f"Ended at step {state.step}: {config.patience} validations in a row without a better one (--patience)."
        cut = config.minutes is not None and (config.steps is None or state.step < config.steps)
        if cut and state.since_best == 0:
            of = f" of {config.steps:,}" if config.steps else ""
            return (
                f"Validation was still rising when --minutes {config.minutes:g} ended the training "
                f"at step {state.step:,}{of}: give it more time."
            )
        return None

    def _note(self) -> str:
        """Loss, speed, last validation and time left, in a line."""
        state, recent = self.state, {name: value for _, name, value in self.state.history}
        left = state.seconds * (1 - self.budget_fraction) / max(self.budget_fraction, 1e-9)
        parts = [
            f"step {state.step}",
            f"loss {recent.get('loss', math.nan):.3f}",
            f"{state.tokens / max(state.seconds, 1e-9):,.0f} tokens/s",
        ]
        if "recall@10" in recent:
            parts.append(f"validation R@10 {100 * recent['recall@10']:.2f} (best {100 * state.best:.2f})")
        return " · ".join((*parts, f"{left / 60:.1f} min left"))

    def _agreed(self, value: float) -> float:
        """The largest value over the processes, so that all decide alike. The hosts ask each other; no device is waited for."""
        if self._hosts is None:
            return value
        largest = torch.tensor(value, dtype=torch.float64)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, self._hosts)
        return largest.item()


@contextmanager
def _stop_signal() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM instead of dying of it; the second SIGINT interrupts at once."""
    got: list[int] = []

    def note(number: int, _frame: object) -> None:
        got.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are not ours to take
        before = {}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
