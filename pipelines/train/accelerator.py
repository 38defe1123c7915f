"""Accelerate, with the precision and the experiment tracker of a training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from pipelines.errors import UserError
from pipelines.models.nn.precision import uses_bf16
from pipelines.processes import process_state
from pipelines.train.plan import Plan


def start_accelerate(precision: str, track: str | None = None, folder: Path | None = None) -> Accelerator:
    """Start Accelerate.

    Args:
        precision: "auto", "fp32" or "bf16".
        track: name of an experiment tracker; None for no tracker.
        folder: folder for the files of the tracker.

    Raises:
        UserError: Accelerate does not know the tracker, or the tracker is not installed.
    """
    bf16 = uses_bf16(precision, process_state().device)
    AcceleratorState._reset_state()  # of an earlier training in this process, in another precision
    try:
        accelerator = Accelerator(
            mixed_precision="bf16" if bf16 else "no", log_with=track, project_dir=folder and str(folder)
        )
    except (ValueError, ImportError) as error:
        if track is None:
            raise
        raise UserError(
            f"--track {track}: {error}. "
            "Install the tracker, e.g. `pip install maskgr[tracking]` for tensorboard."
        ) from None
    if track and not accelerator.log_with:
        raise UserError(
            f"--track {track}: that tracker is not installed; "
            "e.g. `pip install maskgr[tracking]` for tensorboard."
        )
    return accelerator


def start_tracker(accelerator: Accelerator, plan: Plan) -> None:
    """Send the settings of a run to the tracker of the accelerator."""
    settings = {
        name: value
        for config in (plan.model_settings, plan.train)
        for name, value in dataclasses.asdict(config).items()
        if value is not None
    }
    names = {"dataset": plan.dataset, "sids": plan.sids, "model": plan.model, "preset": plan.preset}
    accelerator.init_trackers("maskgr", {**settings, **names})
