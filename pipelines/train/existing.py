"""Runs that exist before a training begins: finished, interrupted, diverged, or with other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipelines import artifacts, typed_json
from pipelines.errors import UserError
from pipelines.train.plan import OPTIONAL, Plan
from pipelines.workspace import Run, RunConfig, Workspace

# Use of a run that exists: "keep" keeps a finished run and refuses an interrupted one, "resume" keeps a
# finished run and continues an interrupted one, "replace" trains the run again.
Existing = Literal["keep", "resume", "replace"]


def find_unfinished(workspace: Workspace, name: str | None) -> tuple[Run, Plan]:
    """Return an interrupted run and its plan.

    Args:
        name: name of the run, which may be finished; None for the newest interrupted run.

    Raises:
        UserError: There is no such run, or it diverged (and would diverge again).
    """
    runs = [workspace.require_run(name)] if name else workspace.runs
    latest = [run.anew if run.anew.config.exists() else run for run in runs]
    for run in sorted(latest, key=lambda run: run.config.stat().st_mtime_ns, reverse=True):
        if not name and not run.has_supported_format:
            continue
        config = run.read_config()
        if name and config.get("state") == "diverged":
            raise UserError(_diverged(run, config))
        if not name and (
            config.get("state") == "diverged" or (config.get("state") == "finished" and run in runs)
        ):
            continue
        try:
            return run, Plan.from_dict(config)
        except (KeyError, typed_json.Mismatch) as error:
            raise UserError(
                f"{run.config} is not a run's configuration of this version ({error}). Train the run again."
            ) from None
    raise UserError(f"There is nothing to resume: every run in {workspace.root} is finished or diverged.")


def is_finished(run: Run, plan: Plan, inputs: dict[str, Path], existing: Existing) -> bool:
    """Return True if the run is finished; False if it does not exist, or is interrupted and to be resumed.

    Args:
        run: run that may exist.
        plan: plan of the training that is about to begin.
        inputs: artifacts that the training reads.
        existing: "keep" or "resume".

    Raises:
        UserError: The run was trained with another plan or on other inputs, its weights are missing, it
            diverged, or it is interrupted and `existing` is "keep".
    """
    if not run.config.exists():
        return False
    config = run.read_config()
    wanted = plan.to_dict()
    changed = [key for key in dict.fromkeys((*wanted, *OPTIONAL)) if config.get(key) != wanted.get(key)]
    final = config.get("final")
    if plan.final and final and final["of"] == plan.final.of and final["weights"] != plan.final.weights:
        raise UserError(
            f"{run.path} was made from an earlier training of {final['of']}. Make it again with --force."
        )
    if changed:
        raise UserError(
            f"{run.path} holds a run with other settings ({', '.join(changed)}). "
            "Choose another --name or use --force."
        )
    recorded = config.get("inputs") or {}
    for name, path in inputs.items():
        if name not in recorded or recorded[name]["sha256"] != artifacts.digest(path):
            raise UserError(
                f"{run.path} was trained on other {name} than {path} now holds. Train it again with --force."
            )
    if config.get("state") == "finished":
        if not run.weights.exists():
            raise UserError(
                f"{run.weights} does not exist, though the run is finished. Train it again with --force."
            )
        return True
    if config.get("state") == "diverged":
        raise UserError(_diverged(run, config))
    if existing == "keep":
        raise UserError(
            f"{run.path} was interrupted at step {config.get('steps', 0)}. "
            f"Continue it with: maskgr train --resume --name {run.name}. Or start again with --force."
        )
    return False


def _diverged(run: Run, config: RunConfig) -> str:
    return (
        f"{run.path} diverged at step {config.get('steps', 0)}, and would again. "
        "Lower --learning-rate and train again with --force."
    )
