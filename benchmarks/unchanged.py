"""Check that a change of the code leaves the results of every model and every way of decoding unchanged.

The check trains the preset `smoke` of all models, and `maskgr` with each of its variants, at a fixed seed on
one thread, and ranks the next items of the first test users. The first call keeps ranks and recommendations
in a folder. A later call compares with them, row for row:

    python -m benchmarks.unchanged /tmp/kept    # before the change
    python -m benchmarks.unchanged /tmp/kept    # after each step of it: exit code 1 if a row differs
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}

USERS = 2000
ITEM_SOFTMAX = "--attention prefix --tokens item --likelihood item"
SMALL = (
    "--centroids --item-embeddings --repeat-bias --whole-item 0.9 --label-smoothing 0.1 --optimizer muon "
    "--dropout 0.3"
)
Decodings = dict[str, dict[str, Any]]  # name → fields of `Decoding`


@dataclass(frozen=True)
class Cell:
    """A training, and the decodings that are compared after it.

    Attributes:
        train: options of `maskgr train`.
        decodings: decodings by name.
    """

    train: str
    decodings: Decodings = field(default_factory=lambda: {"default": {}})


BEAMS: Decodings = {
    "T = H": {},
    "T = 2": {"nfe": 2},
    "T = 3, left to right": {"nfe": 3, "unmask": "left-to-right"},
    "random": {"unmask": "random", "seed": 3},
    "confidence": {"unmask": "confidence"},
    "T = 3, remasked": {"nfe": 3, "remask": 2},
    "unconstrained": {"constrained": False},
    "nearest, T = 2": {"constrained": False, "nearest": True, "nfe": 2},
}
EXACT: Decodings = {"T = 1": {"nfe": 1}, "T = 2": {"nfe": 2}, "T = H": {}, "random": {"unmask": "random"}}
CELLS: dict[str, Cell] = {
    "maskgr": Cell("", {**BEAMS, "approximate": {"approximate": True}}),
    "maskgr, prefix": Cell(
        "--attention prefix", {"T = H": {}, "T = 2": {"nfe": 2}, "unseen": {"exclude_seen": True}}
    ),
    "maskgr, item tokens": Cell("--tokens item", {"T = H": {}, "T = 2": {"nfe": 2}}),
    "maskgr, joint": Cell("--tokens item --likelihood item", EXACT),
    "maskgr, prefix, joint": Cell(ITEM_SOFTMAX, EXACT),
    "maskgr, as small": Cell(f"{ITEM_SOFTMAX} {SMALL}", EXACT),
    "maskgr, negatives": Cell(f"{ITEM_SOFTMAX} --negatives 64", {"T = 1": {"nfe": 1}}),
    "maskgr, centroids": Cell("--centroids", {"T = 2": {"nfe": 2}}),
    "maskgr, item embeddings": Cell("--tokens item --item-embeddings", {"T = 2": {"nfe": 2}}),
    "maskgr, next item": Cell(
        "--next-item 0.3 --whole-item 0.2 --label-smoothing 0.1", {"T = 2": {"nfe": 2}}
    ),
    "maskgr, guided": Cell(
        "--history-dropout 0.1", {"w = 0": {"nfe": 2}, "w = 1": {"nfe": 2, "guidance": 1.0}}
    ),
    "maskgr, prefix, guided": Cell(
        f"{ITEM_SOFTMAX} --history-dropout 0.1", {"w = 1": {"nfe": 2, "guidance": 1.0}}
    ),
    "maskgr, dense": Cell(
        "--dense", {name: {"retrieval": name} for name in ("generative", "dense", "unified")}
    ),
    "maskgr, two ahead": Cell("--horizon 2", {"T = 2": {"nfe": 2}, "T = 4": {"nfe": 4}}),
    "maskgr, two ahead, joint": Cell(
        "--tokens item --likelihood item --horizon 2", {"T = 2": {"nfe": 2}, "T = 3": {"nfe": 3}}
    ),
    "sasrec": Cell(""),
    "sasrec, gbce": Cell("--loss gbce --negatives 64"),
    "sasrec, bce": Cell("--loss bce"),
    "sasrec, repeat bias": Cell("--repeat-bias --label-smoothing 0.1"),
    "bsarec": Cell("--repeat-bias"),
    "bert4rec": Cell("--repeat-bias --next-item 0.1"),
    "bert4rec, negatives": Cell("--negatives 64"),
    "maskgr-items": Cell(""),
    "tiger": Cell("--user-tokens 100", {"T = H": {}, "unconstrained": {"constrained": False}}),
    "liger": Cell("", {name: {"retrieval": name} for name in ("generative", "dense", "unified")}),
    "dreamrec": Cell("--repeat-bias --timesteps 20", {"w = 0": {}, "w = 2": {"guidance": 2.0}}),
    "cadirec": Cell("--timesteps 20 --sampling-steps 2"),
    "rpg": Cell("", {"default": {}}),
    "diffgrm": Cell("", {"T = H": {}, "T = 2": {"nfe": 2}}),
    "diffgrm, random": Cell("--noising random --views 2", {"T = 2": {"nfe": 2}}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "kept", type=Path, help="folder of the results to compare with; the first call makes it"
    )
    parser.add_argument(
        "--workspace", type=Path, help="workspace with Beauty [default: the one that maskgr finds]"
    )
    parser.add_argument("--steps", type=int, default=60, help="number of steps of each training")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of cells at a time")
    parser.add_argument("--only", action="append", help="only cells whose name begins so; may be repeated")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        run_cell(options.cell, options.kept, options.steps)
        return
    from pipelines.workspace import Workspace

    names = [name for name in CELLS if not options.only or name.startswith(tuple(options.only))]
    root = Workspace.find(options.workspace).root.resolve()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        os.environ["MASKGR_WORKSPACE"] = str(root)
        prepare()
        for path in root.iterdir():  # runs are made in a workspace of their own
            if path.name != "runs":
                (Path(folder) / path.name).symlink_to(path)
        os.environ["MASKGR_WORKSPACE"] = folder
        unchanged = list(pool.map(lambda name: run_in_process(name, options), names))
    sys.exit(not all(unchanged))


def prepare() -> None:
    """Make the semantic IDs of Beauty if they are missing."""
    from benchmarks.common import require_beauty

    require_beauty()


def run_in_process(name: str, options: argparse.Namespace) -> bool:
    """Run a cell in a process of its own, and return true if nothing differs."""
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.unchanged", str(options.kept)]
    command += ["--steps", str(options.steps), "--cell", name]
    child = subprocess.run(command, capture_output=True, text=True)
    message = child.stdout.strip() or child.stderr[-2000:]
    print(f"{name} ({time.monotonic() - began:.0f} s): {message}", flush=True)
    return child.returncode == 0


def run_cell(name: str, kept: Path, steps: int) -> None:
    """Train and decode a cell; keep the results, or compare them with the kept ones."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    model, file = name.split(",")[0], kept / f"{name}.parquet"
    train(model, shlex.split(CELLS[name].train), name, steps)
    results = decode(name)
    table = pa.table({key: pa.array(list(rows.reshape(len(rows), -1))) for key, rows in results.items()})
    if not file.exists():
        kept.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)
        print("kept")
        return
    before = pq.read_table(file)
    differing = []
    for column in before.column_names:
        old, new = (np.array(part.column(column).to_pylist(), float) for part in (before, table))
        same = (old == new) | (np.isnan(old) & np.isnan(new))  # the rank of an absent target is NaN
        if count := int((~same.all(1)).sum()):
            differing.append(f"{column}: {count} of {len(before)} users differ")
    print("; ".join(differing) or "the same")
    sys.exit(bool(differing))


def train(model: str, options: list[str], name: str, steps: int) -> None:
    """Run `maskgr train` in this process."""
    from maskgr_cli import app

    run = f"--dataset beauty --model {model} --preset smoke --name {slug(name)} --seed 1 --precision fp32"
    schedule = f"--steps {steps} --validations 1 --validation-users 100 --gpus 0"
    sys.argv = ["maskgr", "train", *run.split(), *schedule.split(), *options]
    try:
        app.main()
    except SystemExit as error:
        if error.code:
            raise


def slug(name: str) -> str:
    """Return the name of a cell's run."""
    return name.replace(",", "").replace(" ", "-")


def decode(name: str) -> dict[str, np.ndarray]:
    """Return items and ranks of the first test users for each decoding, [users, …] each."""
    import numpy as np
    import torch

    from pipelines.data.sequences import gather, load_sequences
    from pipelines.data.splits import Split, histories
    from pipelines.decode.config import Decoding
    from pipelines.decode.index import PartialIndex
    from pipelines.evaluate.capabilities import resolve_decoding
    from pipelines.evaluate.metrics import ranks_table
    from pipelines.evaluate.recommend import recommend
    from pipelines.models.base import DigitModel
    from pipelines.models.loading import load_run
    from pipelines.progress import Silent
    from pipelines.workspace import Workspace

    workspace = Workspace.find()
    trained = load_run(workspace, workspace.require_run(slug(name)), torch.device("cpu"))
    everyone = histories(load_sequences(trained.dataset.sequences), "test", trained.horizon)
    first = gather(everyone.items, everyone.offsets[:USERS], everyone.lengths[:USERS])
    users = Split(
        first.items, first.offsets, everyone.users[:USERS], everyone.targets[:USERS], everyone.warm_items
    )
    digits = isinstance(trained.model, DigitModel)
    results = {}
    for way, settings in CELLS[name].decodings.items():
        decoding = resolve_decoding(Decoding(beams=10, **settings), trained.model)
        index = PartialIndex(trained.catalogue.require_sids(), trained.catalogue.codes) if digits else None
        torch.manual_seed(0)
        result = recommend(trained.model, users, index, decoding, Silent())
        table = ranks_table(users, result.items, result.invalid, result.duplicates)
        columns = [table.column(column).to_numpy(zero_copy_only=False) for column in table.column_names]
        numbers = [column.astype(np.float64) for column in columns if column.dtype.kind in "iuf"]
        results[f"{way}: items"] = result.items
        results[f"{way}: ranks"] = np.stack(numbers, 1).reshape(len(users), -1)
    return results


if __name__ == "__main__":
    main()
