"""Whether a change of the code leaves every model and every way of decoding as they were.

Trains the preset `smoke` of all models, and `maskgr` with each of its variants, at a fixed seed on one thread, and ranks the next items
of the first test users. The first call keeps ranks and recommendations in a folder; a later one compares with them, row for row:

    python -m benchmarks.unchanged /tmp/kept    # before the change
    python -m benchmarks.unchanged /tmp/kept    # after each step of it: exit code 1 where a row differs
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

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}

USERS = 2000
JOINT = "--attention prefix --tokens item --likelihood item"
ALL = "--centroids --item-embeddings --repeat-bias --whole-item 0.9 --label-smoothing 0.1 --optimizer muon --dropout 0.3"


@dataclass(frozen=True)
class Cell:
    """A training, and the ways of decoding that are compared after it.

    Attributes:
        train: options of `maskgr train`.
        decodings: name → fields of `Decoding`.
    """

    train: str
    decodings: dict[str, dict] = field(default_factory=lambda: {"default": {}})


BEAMS = {
    "T = H": {},
    "T = 2": {"nfe": 2},
    "T = 3, left to right": {"nfe": 3, "unmask": "left-to-right"},
    "random": {"unmask": "random", "seed": 3},
    "confidence": {"unmask": "confidence"},
    "T = 3, remasked": {"nfe": 3, "remask": 2},
    "unconstrained": {"constrained": False},
    "nearest, T = 2": {"constrained": False, "nearest": True, "nfe": 2},
}
EXACT = {"T = 1": {"nfe": 1}, "T = 2": {"nfe": 2}, "T = H": {}, "random": {"unmask": "random"}}
CELLS = {
    "maskgr": Cell("", {**BEAMS, "approximate": {"approximate": True}}),
    "maskgr, prefix": Cell(
        "--attention prefix", {"T = H": {}, "T = 2": {"nfe": 2}, "unseen": {"exclude_seen": True}}
    ),
    "maskgr, item tokens": Cell("--tokens item", {"T = H": {}, "T = 2": {"nfe": 2}}),
    "maskgr, joint": Cell("--tokens item --likelihood item", EXACT),
    "maskgr, prefix, joint": Cell(JOINT, EXACT),
    "maskgr, as small": Cell(f"{JOINT} {ALL}", EXACT),
    "maskgr, negatives": Cell(f"{JOINT} --negatives 64", {"T = 1": {"nfe": 1}}),
    "maskgr, centroids": Cell("--centroids", {"T = 2": {"nfe": 2}}),
    "maskgr, item embeddings": Cell("--tokens item --item-embeddings", {"T = 2": {"nfe": 2}}),
    "maskgr, next item": Cell(
        "--next-item 0.3 --whole-item 0.2 --label-smoothing 0.1", {"T = 2": {"nfe": 2}}
    ),
    "maskgr, guided": Cell(
        "--history-dropout 0.1", {"w = 0": {"nfe": 2}, "w = 1": {"nfe": 2, "guidance": 1.0}}
    ),
    "maskgr, prefix, guided": Cell(f"{JOINT} --history-dropout 0.1", {"w = 1": {"nfe": 2, "guidance": 1.0}}),
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
    parser.add_argument("kept", type=Path, help="folder of what is compared with; made by the first call")
    parser.add_argument("--workspace", type=Path, help="where Beauty is [default: the one that maskgr finds]")
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cells at a time")
    parser.add_argument("--only", action="append", help="only the cells that begin so")
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
        for name in root.iterdir():  # runs are made in a workspace of their own
            if name.name != "runs":
                (Path(folder) / name.name).symlink_to(name)
        os.environ["MASKGR_WORKSPACE"] = folder
        same = list(pool.map(lambda name: started(name, options), names))
    sys.exit(not all(same))


def prepare() -> None:
    """Make the semantic IDs of Beauty where they are missing."""
    from benchmarks.common import require_beauty

    require_beauty()


def started(name: str, options: argparse.Namespace) -> bool:
    """Run a cell in a process of its own; whether nothing differs."""
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "benchmarks.unchanged",
        str(options.kept),
        "--steps",
        str(options.steps),
        "--cell",
        name,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    print(
        f"{name} ({time.monotonic() - began:.0f} s): {done.stdout.strip() or done.stderr[-2000:]}", flush=True
    )
    return done.returncode == 0


def run_cell(name: str, kept: Path, steps: int) -> None:
    """Train and decode; keep what was found, or compare it with what is kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    model, file = name.split(",")[0], kept / f"{name}.parquet"
    train(model, shlex.split(CELLS[name].train), name, steps)
    found = decode(name)
    table = pa.table({key: pa.array(list(rows.reshape(len(rows), -1))) for key, rows in found.items()})
    if not file.exists():
        kept.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)
        print("kept")
        return
    before = pq.read_table(file)
    differing = []
    for column in before.column_names:
        rows = zip(before.column(column).to_pylist(), table.column(column).to_pylist(), strict=True)
        if count := sum(a != b for a, b in rows):
            differing.append(f"{column}: {count} of {len(before)} users differ")
    print("; ".join(differing) or "the same")
    sys.exit(bool(differing))


def train(model: str, options: list[str], name: str, steps: int) -> None:
    """`maskgr train` in this process."""
    from maskgr_cli import app

    run = [
        "--dataset",
        "beauty",
        "--model",
        model,
        "--preset",
        "smoke",
        "--name",
        slug(name),
        "--seed",
        "1",
        "--precision",
        "fp32",
    ]
    sys.argv = [
        "maskgr",
        "train",
        *run,
        "--steps",
        str(steps),
        "--validations",
        "1",
        "--validation-users",
        "100",
        "--gpus",
        "0",
        *options,
    ]
    try:
        app.main()
    except SystemExit as error:
        if error.code:
            raise


def slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def decode(name: str) -> dict:
    """Items and ranks of the first test users under each decoding, [users, …] each."""
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
    found = {}
    for way, settings in CELLS[name].decodings.items():
        decoding = resolve_decoding(Decoding(beams=10, **settings), trained.model)
        index = PartialIndex(trained.catalogue.sids, trained.catalogue.codes) if digits else None
        torch.manual_seed(0)
        got = recommend(trained.model, users, index, decoding, Silent())
        table = ranks_table(users, got.items, got.invalid, got.duplicates)
        ranks = [table.column(column).to_numpy(zero_copy_only=False) for column in table.column_names]
        found[f"{way}: items"] = got.items
        found[f"{way}: ranks"] = np.stack(
            [rank.astype(np.float64) for rank in ranks if rank.dtype.kind in "iuf"], 1
        ).reshape(len(users), -1)
    return found


if __name__ == "__main__":
    main()
