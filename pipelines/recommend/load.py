"""Loading of a trained run for use, by folder or by name."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.errors import UserError
from pipelines.models.loading import load_run
from pipelines.progress import Progress, Silent
from pipelines.recommend.model import Model
from pipelines.workspace import Run, Workspace


def load(
    run: str | Path,
    *,
    workspace: Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Model:
    """Load a trained run.

    Where there is a final run of the run (`maskgr train --final RUN`), it is taken.

    Args:
        run: folder of a run, such as "data/runs/NAME", or the name of a run of `workspace`.
        workspace: folder of all artifacts; None for MASKGR_WORKSPACE, else ./data.
        device: device of PyTorch, such as "cpu"; None for an accelerator if there is one.
        progress: receives messages.

    Raises:
        UserError: there is no such run, or it does not fit its data set.
    """
    store, chosen = _find(run, workspace)
    progress = progress or Silent()
    final = store.final_of(chosen)
    if final:
        progress.say(f"Run: {final.name}, the final run of {chosen.name}.")
    elif outdated := store.outdated_final_of(chosen):
        progress.say(
            f"Run: {chosen.name}. Its final run {outdated.name} is of an earlier training; make it again "
            f"with: maskgr train --final {chosen.name} --force"
        )
    elif not chosen.is_final:
        progress.say(
            f"Run: {chosen.name}, trained without the last two items of every user; for a run on all items: "
            f"maskgr train --final {chosen.name}"
        )
    chosen = final or chosen
    place = torch.device(device) if device else torch.accelerator.current_accelerator() or torch.device("cpu")
    return Model(chosen, load_run(store, chosen, place, any_sequences=True))


def _find(run: str | Path, workspace: Path | None) -> tuple[Workspace, Run]:
    """Return the run of a folder or of a name, and its workspace."""
    path = Path(run)
    if workspace is None and (path / "config.json").is_file() and path.absolute().parent.name == "runs":
        store = Workspace.find(path.absolute().parent.parent)
        return store, store.require_run(path.absolute().name)
    store = Workspace.find(workspace)
    if len(path.parts) > 1:
        raise UserError(f"{path} is not the folder of a run (data/runs/NAME) in a workspace.")
    return store, store.require_run(str(run))
