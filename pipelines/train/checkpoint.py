"""What a resume needs, in one safetensors file: weights, optimiser moments, and the state beside them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipelines import artifacts, shapes
from pipelines.errors import reading
from pipelines.train.loop import State, Trainer


def save(trainer: Trainer, path: Path) -> None:
    """Write the trainer's whole state, atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in trainer.unwrapped_model.state_dict().items()}
    for place, optimizer in enumerate(trainer.optimizers):
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{place}.{number}.{name}": torch.as_tensor(value)
                for name, value in moments.items()
            }
    state = json.dumps(dataclasses.asdict(trainer.state))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with artifacts.atomic(path, SafetensorError) as temporary:
        save_file(tensors, temporary, {"state": state, "sha256": _digest(tensors, state)})


def load(trainer: Trainer, path: Path) -> None:
    """Put the trainer back where `save` found it.

    Raises:
        UserError: the file is unreadable or belongs to another model.
    """
    with reading(path, "training state of this run", "Start the run again with --force."):
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            found = file.metadata()
        if found["sha256"] != _digest(tensors, found["state"]):
            raise ValueError("its content is not what was written")
        state = shapes.parse(found["state"], State)
        _restore(trainer, tensors)
    trainer.state = State(**{**state, "history": [tuple(entry) for entry in state["history"]]})


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    sha = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def _restore(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    trainer.unwrapped_model.load_state_dict(part("model."))
    for place, optimizer in enumerate(trainer.optimizers):
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part(f"optimizer.{place}.").items():
            number, moment = name.split(".", 1)
            moments.setdefault(int(number), {})[moment] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
