"""The model card of a bundle: README.md with the front matter that the Hugging Face Hub reads.

Names, identifiers and texts are data: what Markdown or HTML would interpret is escaped.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from pipelines import __version__
from pipelines.bundle.config import BundleConfig
from pipelines.bundle.facts import Facts, Measured
from pipelines.bundle.manifest import CARD, GRAPH, IDS, PROGRAM
from pipelines.formats import finals_of, trainings
from pipelines.options import printable
from pipelines.temporal import left_out_of

PERCENT = 100
NAMES = {"recall": "Recall", "ndcg": "NDCG"}


def write_card(folder: Path, facts: Facts, config: BundleConfig) -> None:
    """Write README.md into the folder of a bundle."""
    sections = (
        _front_matter(facts, config),
        _what(facts),
        _use(facts, config),
        _metrics(facts),
        _data(facts),
        _training(facts, folder),
        _limits(facts),
    )
    (folder / CARD).write_text("\n".join(sections), encoding="utf-8")


def plain(text: object) -> str:
    """Return a text in one line in which Markdown and HTML find nothing to interpret."""
    line = html.escape(printable(" ".join(str(text).split())), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", line)


def _front_matter(facts: Facts, config: BundleConfig) -> str:
    tags = ["maskgr", "recommendation", "generative-recommendation", facts.config["model"]]
    tags += ["semantic-ids"] * (facts.trained.catalogue.sids is not None) + ["onnx"] * config.onnx
    lines = [
        "library_name: maskgr",
        "license: other",
        "license_name: not-stated",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in dict.fromkeys(tags)),
    ]
    return "\n".join(["---", *lines, "---", ""])


def _what(facts: Facts) -> str:
    model, catalogue = facts.config["model"], facts.trained.catalogue
    sids = ""
    if catalogue.sids is not None:
        sids = f" over semantic IDs of {catalogue.sids.shape[1]} digits with {catalogue.codes} codes each"
    originals = ", ".join(map(plain, finals_of(facts.config)))
    seen = (
        f"It was trained on all interactions, with the settings and for the steps of {originals}."
        if originals
        else f"Its training left out {left_out_of(trainings(facts.config)[0].get('split'))}, for validation "
        "and test."
    )
    if "members" in facts.config:
        seen = f"Its distribution is the geometric mean of those of its members. {seen}"
    return f"""# {plain(facts.run)}

A sequential recommender: from the items that somebody took, oldest first, it ranks the {catalogue.items:,} \
items of its catalogue. The model is `{model}`{sids}, trained by [maskgr](https://github.com/maskgr/maskgr) \
{__version__}. {seen}

The license is for whoever publishes this folder to state, in `license` and `license_name` above.
"""


def _use(facts: Facts, config: BundleConfig) -> str:
    history = ", ".join(json.dumps(name) for name in facts.examples)
    text = f"""## Use

```python
import maskgr

model = maskgr.load("FOLDER")  # this folder, or "hf:OWNER/NAME"
print(model.recommend([[{history}]], k=10))
```

```bash
maskgr recommend FOLDER --history {",".join(facts.examples)}
```

Loading checks the sha256 of every file and runs no code of this folder. The folder holds no users and no \
interactions, but the number of interactions of each item, which rank the items for an empty history.
"""
    if config.onnx:
        text += f"""
`{GRAPH}` needs onnxruntime alone. Its input `items` is int64 [histories, n]: numbers of items, that is \
positions of ids in `{IDS}`, oldest first, −1 before shorter histories. Its outputs are `recommended`, int64 \
[histories, {min(config.onnx_items, facts.trained.catalogue.items)}], best first, and `scores`. It takes one \
function evaluation. Example: `python {PROGRAM} {" ".join(facts.examples)}`
"""
    return text


def _metrics(facts: Facts) -> str:
    if not facts.measured:
        return f"## Metrics\n\n{plain(facts.measured_run)} has not been evaluated.\n"
    of = ""
    if facts.measured_run != facts.run:
        of = (
            f" They are those of {plain(facts.measured_run)}, whose training left out the measured items; "
            "the final run of this folder saw all items and cannot be measured on them."
        )
    parts = [
        "## Metrics\n\nPercent of users, with 95 % bootstrap intervals over users. All items are "
        f"candidates; each user has one target.{of}\n"
    ]
    return "\n".join(parts + [_evaluation(measured) for measured in facts.measured])


def _evaluation(measured: Measured) -> str:
    rows = [row for row in measured.rows if row["k"] is not None]
    lines = [
        f"| {_metric(row)} | {PERCENT * row['value']:.2f} | {_interval(row)} | {row['users']:,} |"
        for row in rows
    ]
    split = plain(measured.config.get("split", "test"))
    return "\n".join(
        [
            f"Decoding {plain(measured.name)}, split {split}, on {plain(measured.machine)}:",
            "",
            "| metric | value | interval | users |",
            "| --- | ---: | ---: | ---: |",
            *lines,
            "",
        ]
    )


def _metric(row: dict[str, Any]) -> str:
    """Return the name of a metric, e.g. "Recall@10, cold targets"."""
    *kind, name = row["metric"].split("_")
    targets = f", {kind[0]} targets" if kind else ""
    return f"{NAMES.get(name, plain(name))}@{row['k']}{targets}"


def _interval(row: dict[str, float | None]) -> str:
    low, high = row["low"], row["high"]
    return "—" if low is None or high is None else f"{PERCENT * low:.2f} to {PERCENT * high:.2f}"


def _data(facts: Facts) -> str:
    source = facts.source
    if source:
        origin = f"{plain(source.content)}. Terms: {plain(source.terms)} Cite: {plain(source.citation)}."
    else:
        origin = "Imported by the publisher of this folder. maskgr knows neither its source nor its terms."
    N = facts.trained.catalogue.items
    return f"""## Data

Data set {plain(facts.trained.dataset.name)}: {facts.users:,} users, {N:,} items, \
{facts.interactions:,} interactions. {origin}

Columns of the items: {", ".join(map(plain, facts.columns))}.
"""


def _training(facts: Facts, folder: Path) -> str:
    config, settings = facts.config, folder / "train.toml"
    if "members" in config:
        return _members(facts)
    final = config.get("final")
    commands = ["maskgr train --config train.toml"] * settings.exists()
    commands += [f"maskgr train --final {final['of']}"] if final else []
    took = f", {config['seconds'] / 60:.1f} minutes" if "seconds" in config else ""
    text = f"""## Training

{config.get("steps", 0):,} steps{took}, preset {plain(config["preset"])}, on {plain(config.get("machine"))}, \
maskgr {plain(config.get("version"))}, commit {plain(config.get("commit"))}.

```bash
{chr(10).join(commands)}
```
"""
    if settings.exists():
        text += f"\n```toml\n{printable(settings.read_text(encoding='utf-8'), lines=True)}```\n"
    return text


def _members(facts: Facts) -> str:
    """Return the section about the training of a committee's members."""
    lines = [
        f"| {plain(member['run'])} | {member['weight']:.3g} | {plain(its['model'])} | "
        f"{plain(its['preset'])} | {its.get('steps', 0):,} | {plain(its.get('machine'))} | "
        f"{plain(its.get('commit'))} |"
        for member in facts.config["members"]
        for its in [member["config"]]
    ]
    return "\n".join(
        [
            "## Training",
            "",
            f"Made by maskgr {plain(facts.config.get('version'))}, `maskgr ensemble`, of these runs:",
            "",
            "| member | weight | model | preset | steps | machine | commit |",
            "| --- | ---: | --- | --- | ---: | --- | --- |",
            *lines,
            "",
        ]
    )


def _limits(facts: Facts) -> str:
    trained = facts.trained
    limits = [
        f"It sees the last {trained.model.config.max_items} items of a history.",
        "The catalogue is fixed: new items need a new export.",
        "It learned from the users of one data set; the metrics say little of other people and times.",
        "Scores of different models, or of different numbers of function evaluations, cannot be compared.",
    ]
    if len(trained.new_items):
        limits.append(f"{len(trained.new_items):,} items of the catalogue were not part of its training.")
    if trained.horizon > 1:
        limits.append(f"It recommends lists of {trained.horizon} items.")
    return "\n".join(["## Limits", "", *(f"- {limit}" for limit in limits), ""])
