"""Checkpoint of a training: weights, optimizer moments and the trainer's state in one safetensors file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipelines import artifacts, typed_json
from pipelines.errors import reading
from pipelines.models import loading
from pipelines.train.loop import Trainer
from pipelines.train.state import State


def save(trainer: Trainer, path: Path) -> None:
    """Write the checkpoint of a trainer, atomically.

    Raises:
        UserError: The file cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in trainer.unwrapped_model.state_dict().items()}
    for index, optimizer in enumerate(trainer.optimizers):
        for parameter, moments in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{parameter}.{name}": torch.as_tensor(value)
                for name, value in moments.items()
            }
    state = json.dumps(dataclasses.asdict(trainer.state))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with artifacts.atomic(path, SafetensorError) as temporary:
        save_file(tensors, temporary, {"state": state, "sha256": _digest(tensors, state)})


def load(trainer: Trainer, path: Path) -> None:
    """Put a trainer into the state that `save` wrote.

    Raises:
        UserError: The file cannot be read, or it belongs to another model.
    """
    with reading(path, "training state of this run", "Start the run again with --force."):
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            metadata = file.metadata()
        if metadata["sha256"] != _digest(tensors, metadata["state"]):
            raise ValueError("its content is not what was written")
        state = typed_json.parse(metadata["state"], State)
        _restore(trainer, tensors)
    trainer.state = State(**{**state, "history": [tuple(entry) for entry in state["history"]]})


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    sha = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _restore(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    model = trainer.unwrapped_model
    loading.place_weights(model, part("model."), np.arange(model.items))
    for index, optimizer in enumerate(trainer.optimizers):
        moments: dict[int, dict[str, Tensor | float]] = {}
        for name, tensor in part(f"optimizer.{index}.").items():
            parameter, moment = name.split(".", 1)
            counts = not tensor.is_floating_point()  # steps of SparseAdam, an int
            moments.setdefault(int(parameter), {})[moment] = tensor.item() if counts else tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
