"""Draw docs/reveal.svg: how the digits of one recommendation are revealed in each order of unmasking.

    python -m benchmarks.reveal

It trains a small model with independent digits on the invented shop of docs/quick-start.md: about a minute on
a CPU.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
TRAINING = (
    "--likelihood digit --no-repeat-bias --no-item-embeddings --whole-item 0.2 "
    "--validations 1 --steps 60 --name apart"
)
CUSTOMER = "c7"
PANELS = (("greedy", 4), ("left-to-right", 4), ("random", 4), ("greedy", 2))  # order, function evaluations
MASKED, NEW, OLD = "#eeeeee", "#3949ab", "#c5cae9"


def explained(folder: Path) -> list[dict[str, Any]]:
    """Train in a folder, and return a recommendation with its explanation for each panel."""

    def maskgr(line: str) -> str:
        command = [sys.executable, "-m", "maskgr_cli", "--quiet", *line.split()]
        return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout

    page = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
    (shop,) = re.findall(r"<<'END'\n(.*?)^END$", page, re.DOTALL | re.MULTILINE)
    subprocess.run([sys.executable, "-c", shop], cwd=folder, check=True)
    maskgr("import shop --interactions orders.csv --items products.csv")
    maskgr("embed")
    maskgr("tokenize --sids 3 --codebook 8 --name small")
    maskgr(f"train --semantic-ids small {TRAINING}")
    asked = "recommend apart -k 1 --explain --format json"
    (first,) = json.loads(maskgr(f"{asked} --user {CUSTOMER} --unmask greedy"))
    found = f"{asked} --user {CUSTOMER} --allow {first['item_id']}"  # the same item in every order
    return [json.loads(maskgr(f"{found} --unmask {order} --nfe {count}"))[0] for order, count in PANELS]


def draw(axes: Any, order: str, count: int, explanation: list[dict[str, Any]]) -> None:
    """Draw a panel: a row for each function evaluation, a column for each digit."""
    for step in explanation:
        for evaluation in range(1, count + 1):
            new, old = step["evaluation"] == evaluation, step["evaluation"] < evaluation
            color = NEW if new else OLD if old else MASKED
            place = (step["digit"] - 1, evaluation - 1)
            axes.add_patch(plt.Rectangle(place, 0.94, 0.9, color=color))
            text = (
                f"{step['code']}\n{step['probability']:.0%}" if new else str(step["code"]) if old else "MASK"
            )
            axes.text(
                place[0] + 0.47,
                place[1] + 0.45,
                text,
                ha="center",
                va="center",
                fontsize=8,
                color="white" if new else "#333333",
            )
    digits = len(explanation)
    axes.set(xlim=(0, digits), ylim=(count, 0), title=f"{order}, {count} evaluations")
    axes.set_xticks([n + 0.47 for n in range(digits)], [f"digit {n + 1}" for n in range(digits)])
    axes.set_yticks([n + 0.45 for n in range(count)], range(1, count + 1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def main() -> None:
    """Write docs/reveal.svg."""
    with tempfile.TemporaryDirectory() as folder:
        found = explained(Path(folder, "."))
    plt.rcParams.update({"svg.hashsalt": "maskgr", "svg.fonttype": "none", "font.family": "sans-serif"})
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.6))
    for panel, (order, count), row in zip(axes.flat, PANELS, found, strict=True):
        draw(panel, order, count, row["explanation"])
    figure.suptitle(f"{found[0]['title']}: code and probability when each digit is revealed", fontsize=10)
    figure.supylabel("function evaluation", fontsize=9)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "reveal.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
