"""Settings of a training with the source of each value. Light to import."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.models.registry import model_class
from pipelines.options import flag_of
from pipelines.train.config import CONTINUED_RATE, CONTINUED_STEPS, unread_options
from pipelines.train.configure import configure, effective_values

if TYPE_CHECKING:
    from pipelines.train.plan import Plan

RULE = re.compile(r"\[default: (.+)\]$")  # in the help text of an option whose default depends on others


@dataclass(frozen=True)
class Setting:
    """One setting of a training.

    Attributes:
        key: its key in a configuration file, the flag without dashes.
        value: its value; None if there is none, or if a rule gives it later.
        source: what gave the value: "command line", "file", "preset …", "run …", "default", or "rule: …".
    """

    key: str
    value: Any
    source: str


def explain(model: str, preset: str, settings: dict[str, Any], file: dict[str, Any]) -> list[Setting]:
    """Return the settings of model and training, see `configure` for the arguments.

    Raises:
        UserError: see `configure`.
    """
    of_preset = effective_values(model, preset, settings, file)[0]
    sources = {
        **dict.fromkeys(of_preset, f"preset {preset}"),
        **dict.fromkeys(of_preset.keys() & file.keys(), "file"),
        **dict.fromkeys(settings, "command line"),
    }
    unread = unread_options(model_class(model))
    configs = configure(model, preset, settings, file)
    return [setting for config in configs for setting in _of(config, sources, unread)]


def explain_plan(plan: Plan, settings: dict[str, Any], file: dict[str, Any]) -> list[Setting]:
    """Return the settings of a plan that is made from a run.

    Args:
        plan: the plan.
        settings: values by field from the command line.
        file: values by field from a configuration file.
    """
    made_from = plan.continued or plan.final
    assert made_from, "the plan is made from a run"
    names = {f.name for config in (plan.model_settings, plan.train) for f in dataclasses.fields(config)}
    sources = dict.fromkeys(names, f"run {made_from.of}")
    if plan.continued:
        first = plan.continued
        sources["steps"] = f"rule: {CONTINUED_STEPS:.0%} of the first run's {first.first_steps:,}"
        sources["learning_rate"] = f"rule: {CONTINUED_RATE:.0%} of the first run's {first.first_rate:g}"
    sources |= {**dict.fromkeys(file, "file"), **dict.fromkeys(settings, "command line")}
    unread = unread_options(type(plan.model_settings))
    configs = (plan.model_settings, plan.train)
    return [setting for config in configs for setting in _of(config, sources, unread)]


def _of(config: Any, sources: dict[str, str], unread: set[str]) -> list[Setting]:
    """Return the settings of a configuration that are read; a field without a source has its default."""
    result = []
    for field in dataclasses.fields(config):
        if "help" not in field.metadata or field.name in unread:
            continue
        value, source = getattr(config, field.name), sources.get(field.name, "default")
        rule = RULE.search(field.metadata["help"])
        if value is None and rule:
            source = f"rule: {rule[1]}"
        result.append(Setting(flag_of(field).removeprefix("--"), value, source))
    return result
