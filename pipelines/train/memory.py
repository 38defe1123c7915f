"""Memory that training needs: a check before the model is built, and an estimate before the first step.

Light to import.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pipelines.errors import UserError
from pipelines.models.config import ModelConfig
from pipelines.train.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from pipelines.train.loop import Trainer
    from pipelines.train.plan import Plan

BYTES_PER_PARAMETER = 16  # in training: the parameter, its gradient and the optimizer's two moments
# Training in memory holds the sequences, their training part, the windows of an epoch, and their places.
INTERACTION_BYTES = 40  # of an interaction
SEQUENCES_SHARE = 1 / 16  # of the memory, above which the sequences stay in their files
MIN_MICRO_TOKENS = 2048  # tokens in one forward pass without --micro-tokens, at least
ANY_ITEMS = 10**9  # number of items that no other number of logits equals
MOMENTS = {"Muon": 1}  # tensors of a parameter's size that an optimizer keeps, by class; the others keep two
# Numbers that a block keeps of a token for the backward pass, in widths of the states: the inputs of the
# attention, the MLP and their norms, queries, keys, values and their sum, and the masks of dropout.
KEPT_WIDTHS = 12
KEPT_MLPS = 2  # the same in widths of the MLP: before and after the activation
SPREAD = 1.2  # tokens of the largest step, relative to a step of average length
KEPT_LOGITS = 3  # of each logit: itself, its probability and its gradient


def check_memory(model_settings: ModelConfig, train: TrainConfig, items: int = 0) -> None:
    """Refuse a model that needs more memory than the machine has and more than its largest GPU has.

    The need is a lower bound: the parameters in training and the activations of one forward pass through the
    blocks. A counted model has neither.

    Args:
        items: number of items of the catalogue; 0 if it is not known yet.

    Raises:
        UserError: The memory does not suffice. The message names the need and the memory of the machine.
    """
    if model_settings.is_counted:
        return
    parameters = model_settings.least_parameters(items)
    tokens = min(train.micro_tokens or MIN_MICRO_TOKENS, train.batch_size * model_settings.window)
    per_token = model_settings.layers * (4 * model_settings.width + model_settings.mlp)
    need = BYTES_PER_PARAMETER * parameters + 4 * tokens * per_token
    if need <= _memory() or need <= _largest_gpu():
        return
    raise UserError(
        f"A model with --layers {model_settings.layers}, --width {model_settings.width} and "
        f"--mlp {model_settings.mlp} has at least {parameters / 1e6:,.0f} M parameters and needs at least "
        f"{need / 2**30:,.0f} GiB to train on {tokens:,} tokens at a time; this machine has "
        f"{_memory() / 2**30:,.0f} GiB. Lower them, or --micro-tokens."
    )


def fits_in_memory(interactions: int, soft_bytes: int = 0) -> bool:
    """Return True if the sequences of so many interactions may be held in memory for training.

    Args:
        interactions: number of interactions.
        soft_bytes: bytes of the soft targets of an interaction.
    """
    return (INTERACTION_BYTES + soft_bytes) * interactions <= SEQUENCES_SHARE * _memory()


def _memory() -> float:
    """Return the machine's memory in bytes; infinity if the system does not report it."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def _largest_gpu() -> float:
    """Return the memory of the largest GPU in bytes; 0 without a GPU."""
    import torch  # slow to import, and needed only for models that exceed the machine's memory

    return max(
        (
            torch.cuda.get_device_properties(number).total_memory
            for number in range(torch.cuda.device_count())
        ),
        default=0,
    )


@dataclass(frozen=True)
class Memory:
    """Estimate of the largest memory of a training step, in bytes.

    Attributes:
        parameters: weights of the model. Exact.
        gradients: their gradients; those of tables with sparse gradients count as activations. Exact.
        moments: tensors of the optimizers. Exact.
        data: semantic IDs and what else of the catalogue the model holds. Exact.
        index: index of the partial semantic IDs, for validation. Exact.
        activations: what a forward pass keeps for its backward pass. An estimate.
    """

    parameters: int
    gradients: int
    moments: int
    data: int
    index: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of all."""
        return sum(getattr(self, field.name) for field in fields(self))

    def describe(self, device: str, tokens: int, available: float) -> str:
        """Return a line.

        Args:
            device: type of the device that holds all this.
            tokens: largest number of tokens in a forward pass.
            available: memory of the device in bytes.
        """

        def gib(size: float) -> str:
            return f"{size / 2**30:.3g}"

        beyond = f", which has {gib(available)} GiB: lower --micro-tokens" if self.total > available else ""
        saving = ""
        if device != "cpu":  # a checkpoint is written from the host
            saving = f"; {gib(self.parameters + self.moments)} GiB on the host while it saves"
        parts = {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "moments": self.moments,
            "semantic IDs and texts": self.data,
            "index": self.index,
            f"a forward pass of {tokens:,} tokens": self.activations,
        }
        held = ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)
        return f"Memory, estimated: {gib(self.total)} GiB on {device}{beyond} ({held}){saving}."


def estimate(trainer: Trainer, index: int = 0) -> Memory:
    """Estimate the memory of the training steps of a trainer.

    Args:
        trainer: the trainer.
        index: size of the index of validation in bytes; 0 without one.
    """
    from pipelines.train.optimizers import sparse_tables  # loads torch

    model = trainer.unwrapped_model
    dense = _bytes(p for p in model.parameters() if p.requires_grad)
    return Memory(
        parameters=_bytes(model.parameters()),
        gradients=dense - _bytes(sparse_tables(model).values()),
        moments=_moments(trainer.optimizers),
        data=_bytes(model.buffers()),
        index=index + model.candidate_bytes,
        activations=_activations(trainer),
    )


def describe(trainer: Trainer, index: int = 0) -> str:
    """Return `estimate` as a line."""
    device = trainer.accelerator.device.type
    available = _largest_gpu() if device == "cuda" else _memory()
    return estimate(trainer, index).describe(device, pass_tokens(trainer), available)


def advice(plan: Plan) -> str:
    """Return what to do where the memory does not suffice for a training, in a line."""
    config, settings = plan.train, plan.model_settings
    if settings.is_counted:
        return "Lower --reach, and train again with --force."
    tokens = f" ({config.micro_tokens:,})" if config.micro_tokens else " (2,048 on a CPU, 32,768 on a GPU)"
    options = [f"--micro-tokens{tokens}", f"--width ({settings.width})", f"--layers ({settings.layers})"]
    if negatives := getattr(settings, "negatives", 0):
        options.insert(1, f"--negatives ({negatives:,})")
    elif settings.logits(ANY_ITEMS, 1) == ANY_ITEMS:
        options.append("compare with some items only (--negatives 1024)")
    return (
        f"Lower {', '.join(options[:-1])}, or {options[-1]}, and train again with --force. What was saved "
        "before is kept: --resume goes on from it where more memory is free."
    )


def pass_tokens(trainer: Trainer) -> int:
    """Return the largest number of tokens in a forward pass, over all streams; a whole step may have fewer
    than one pass may.
    """
    lengths = trainer.batches.window_lengths
    step = trainer.batches.batch_size * lengths.mean() * trainer.tokens_per_item
    return min(trainer.micro_tokens, int(SPREAD * step))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _moments(optimizers: Sequence[Optimizer]) -> int:
    """Return the bytes of the tensors that optimizers keep of their parameters."""
    return sum(
        MOMENTS.get(type(getattr(optimizer, "optimizer", optimizer)).__name__, 2) * _bytes(group["params"])
        for optimizer in optimizers
        for group in optimizer.param_groups
    )


def _activations(trainer: Trainer) -> int:
    """Return the bytes that a forward pass keeps for its backward pass."""
    model, config = trainer.unwrapped_model, trainer.unwrapped_model.config
    tokens, device = pass_tokens(trainer), trainer.accelerator.device.type
    blocks = sum(hasattr(module, "qkv") for module in model.modules())
    per_block = KEPT_WIDTHS * config.width + KEPT_MLPS * config.mlp
    if device == "cpu":  # there the weights of the attention are kept
        per_block += 2 * config.heads * _mean_row(trainer)
    half = trainer.accelerator.mixed_precision == "bf16"
    states = (2 if half else 4) * tokens * blocks * per_block
    columns = getattr(model, "digits", 0) * getattr(model, "codes", 0)
    logits = tokens // trainer.tokens_per_item * config.logits(model.items, columns)
    return states + 4 * KEPT_LOGITS * logits


def _mean_row(trainer: Trainer) -> int:
    """Return the number of tokens of the row of a token, on average."""
    lengths = trainer.batches.window_lengths
    return int((lengths**2).sum() / max(1, lengths.sum())) * trainer.tokens_per_item


def release_unused() -> None:
    """Return memory that nothing uses to the system: that of files that were read, and of sorting."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
