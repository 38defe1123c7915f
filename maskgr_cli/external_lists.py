"""External lists on the command line: the options that go with them, their data set and their file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.external.config import ExternalConfig
from pipelines.options import has_no_effect
from pipelines.progress import Progress
from pipelines.workspace import Dataset, Run, Workspace

if TYPE_CHECKING:
    from pipelines.evaluate.external import Lists


def refuse_options_of_runs(config: EvalConfig, given: dict[str, Any]) -> None:
    """Refuse options that have no effect on external lists alone.

    Args:
        config: settings of the evaluation.
        given: flags of the command's own options, with their values.

    Raises:
        UserError: one is given.
    """
    from pipelines.evaluate.external import check_settings

    if flags := [flag for flag, value in given.items() if value not in (None, False)]:
        raise has_no_effect(flags, "--recommendations without a run")
    check_settings(config)


def dataset_of(external: ExternalConfig, store: Workspace, runs: list[Run]) -> Dataset:
    """Return the data set of external lists: that of the runs, if there are any.

    Raises:
        UserError: there is no such data set, it is not that of the runs, or a run has the name of the lists.
    """
    if external.result in {run.name for run in runs}:
        raise UserError(
            f"{external.result} is the name of a run and of the lists. Name the lists with --name."
        )
    of_runs = runs[0].read_config().get("dataset") if runs else None
    if of_runs and external.dataset not in (None, of_runs):
        raise UserError(
            f"--dataset {external.dataset}: run {runs[0].name} was trained on {of_runs}. Leave --dataset out."
        )
    return store.require_dataset(of_runs or external.dataset)


def read(
    external: ExternalConfig, dataset: Dataset, config: EvalConfig, progress: Progress
) -> tuple[EvalConfig, Lists]:
    """Read external lists; return them with the settings for lists and runs."""
    from pipelines.evaluate.external import settings_for
    from pipelines.external.read import read_lists

    lists = read_lists(Path(external.recommendations or ""), dataset, progress)
    return settings_for(lists, config, progress), lists
