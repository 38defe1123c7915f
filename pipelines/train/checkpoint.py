"""What a resume needs, in one safetensors file: weights, optimiser moments, and the state beside them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.train.loop import State, Trainer


def save(trainer: Trainer, path: Path) -> None:
    """Write the trainer's whole state, atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in trainer.bare.state_dict().items()}
    for place, optimizer in enumerate(trainer.optimizers):
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{place}.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    state = json.dumps(dataclasses.asdict(trainer.state))
    with artifacts.atomic(path, SafetensorError) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, {"state": state})


def load(trainer: Trainer, path: Path) -> None:
    """Put the trainer back where `save` found it.

    Raises:
        UserError: the file is unreadable or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            state = json.loads(file.metadata()["state"])
        _restore(trainer, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be resumed from ({reason}). Start the run again with --force.") from None
    trainer.state = State(**{**state, "history": [tuple(entry) for entry in state["history"]]})


def _restore(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    trainer.bare.load_state_dict(part("model."))
    for place, optimizer in enumerate(trainer.optimizers):
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part(f"optimizer.{place}.").items():
            number, moment = name.split(".", 1)
            moments.setdefault(int(number), {})[moment] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
