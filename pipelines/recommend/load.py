"""Loading of a trained run for use: by folder, by name, or from a bundle."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.bundle.hub import HUB, fetch
from pipelines.bundle.manifest import is_bundle
from pipelines.bundle.read import load_bundle
from pipelines.errors import UserError
from pipelines.formats import trainings
from pipelines.models.loading import load_run
from pipelines.progress import Progress, Silent
from pipelines.recommend.model import Model
from pipelines.temporal import left_out_of
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
        run: folder of a run, such as "data/runs/NAME"; the name of a run of `workspace`; folder of a bundle
            (`maskgr export`); or "hf:OWNER/NAME", a bundle on the Hugging Face Hub, with "@REVISION" behind
            it where it is not the newest.
        workspace: folder of all artifacts; None for MASKGR_WORKSPACE, else ./data.
        device: device of PyTorch, such as "cpu"; None for an accelerator if there is one.
        progress: receives messages.

    Raises:
        UserError: there is no such run, it does not fit its data set, or a file of the bundle has changed.
    """
    progress = progress or Silent()
    place = torch.device(device) if device else torch.accelerator.current_accelerator() or torch.device("cpu")
    if (folder := bundle_of(run, workspace)) is not None:
        bundle = load_bundle(folder, place)
        progress.say(f"Run: {bundle.run.name}, of the bundle {run}.")
        return Model(bundle.run, bundle.trained, bundle.counts)
    store, found = _find(run, workspace)
    chosen = choose_final(store, found, progress)
    return Model(chosen, load_run(store, chosen, place, any_sequences=True))


def choose_final(store: Workspace, run: Run, progress: Progress) -> Run:
    """Return the final run of a run where there is one, else the run, and report the choice."""
    final = store.final_of(run)
    if final:
        progress.say(f"Run: {final.name}, the final run of {run.name}.")
    elif outdated := store.outdated_final_of(run):
        progress.say(
            f"Run: {run.name}. Its final run {outdated.name} is of an earlier training; make it again "
            f"with: maskgr train --final {run.name} --force"
        )
    elif not run.is_final:
        config = run.read_config()
        without = left_out_of(trainings(config)[0].get("split"))
        if "members" in config:
            progress.say(
                f"Run: {run.name}, whose members were trained without {without}; for one on all items, make "
                "a committee of their final runs: maskgr ensemble"
            )
        else:
            progress.say(
                f"Run: {run.name}, trained without {without}; for a run on all items: maskgr train --final "
                f"{run.name}"
            )
    return final or run


def bundle_of(run: str | Path, workspace: Path | None) -> Path | None:
    """Return the folder of a bundle, which is downloaded if need be; None if `run` names none.

    A run of the workspace goes before a folder of the same name in the working directory; "./NAME" is the
    folder.
    """
    name = str(run)
    if name.startswith(HUB):
        return fetch(name)
    if not is_bundle(Path(run)):
        return None
    is_plain = name == Path(run).name
    in_workspace = is_plain and (Workspace.path(workspace) / "runs" / name / "config.json").is_file()
    return None if in_workspace else Path(run)


def _find(run: str | Path, workspace: Path | None) -> tuple[Workspace, Run]:
    """Return the run of a folder or of a name, and its workspace."""
    path = Path(run)
    if workspace is None and (path / "config.json").is_file() and path.absolute().parent.name == "runs":
        store = Workspace.find(path.absolute().parent.parent)
        return store, store.require_run(path.absolute().name)
    store = Workspace.find(workspace)
    if len(path.parts) > 1:
        raise UserError(f"{path} is not the folder of a run (data/runs/NAME) in a workspace, or of a bundle.")
    return store, store.require_run(str(run))
