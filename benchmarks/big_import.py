"""Time and peak memory of import, embed and tokenize on made data, each command in a process of its own.

    python -m benchmarks.big_import --rows 5000000 --items 200000

makes ROWS interactions of ROWS / 10 users with ITEMS items of Zipf-like popularity (ids are texts), as CSV
and as Parquet, and ITEMS items with texts of eight invented words. It imports both formats, and embeds and
tokenizes the items of the last import. The seconds include the start of the program. The files are removed
at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from benchmarks.common import save
from maskgr_cli import console
from pipelines import artifacts

BLOCK = 1_000_000  # rows that are made at a time
EXPONENT = 0.8  # of the popularity of items
WORDS, LENGTH = 50_000, 8  # distinct words of the texts, words of a text
START, SPAN = 1_600_000_000, 100_000_000  # first time and range of the times, seconds since 1970
# Runs a command and prints its wall and processor seconds and its peak of resident memory in bytes.
MEASURE = """
import json, resource, subprocess, sys, time
began = time.monotonic()
done = subprocess.run(sys.argv[1:], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = time.monotonic() - began
print(json.dumps({"seconds": round(seconds, 1), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
                  "peak_gib": round(used.ru_maxrss / 2**20, 2)}))
sys.exit(done.returncode)
"""


def names(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Return ids, text [n]."""
    return pa.array(np.char.add(prefix, numbers.astype("U9")))


def interactions(rows: int, items: int, seed: int) -> Iterator[pa.Table]:
    """Yield interactions in blocks: user_id, item_id, timestamp and rating, in the order of time."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, items + 1) ** -EXPONENT  # [items]
    cumulated = np.cumsum(shares) / shares.sum()
    for start in range(0, rows, BLOCK):
        n = min(BLOCK, rows - start)
        times = START + np.sort(rng.integers(0, SPAN * n // rows, n)) + SPAN * start // rows
        yield pa.table(
            {
                "user_id": names("user-", rng.integers(0, max(1, rows // 10), n)),
                "item_id": names("B", np.searchsorted(cumulated, rng.random(n))),
                "timestamp": times,
                "rating": rng.integers(1, 6, n),
            }
        )


def texts(items: int, seed: int) -> pa.Table:
    """Return item_id and title of all items."""
    rng = np.random.default_rng(seed)
    words = np.char.add("word", np.arange(WORDS).astype("U5"))
    drawn = np.minimum(rng.zipf(1.3, (items, LENGTH)) - 1, WORDS - 1)  # [items, LENGTH]
    titles = words[drawn[:, 0]]
    for column in drawn.T[1:]:
        titles = np.char.add(np.char.add(titles, " "), words[column])
    return pa.table({"item_id": names("B", np.arange(items)), "title": pa.array(titles)})


def make(folder: Path, rows: int, items: int, seed: int) -> None:
    """Write log.csv, log.parquet and items.parquet."""
    csv = parquet = None
    for table in interactions(rows, items, seed):
        csv = csv or pc.CSVWriter(folder / "log.csv", table.schema)
        parquet = parquet or pq.ParquetWriter(folder / "log.parquet", table.schema)
        csv.write_table(table)
        parquet.write_table(table)
    csv.close()
    parquet.close()
    pq.write_table(texts(items, seed), folder / "items.parquet")


def measured(*command: object, workspace: Path) -> dict[str, float]:
    """Run a command of maskgr and return what it used."""
    maskgr = [sys.executable, "-m", "maskgr_cli"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *maskgr, *map(str, command)],
        env=os.environ | {"MASKGR_WORKSPACE": str(workspace)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000, help="interactions")
    parser.add_argument("--items", type=int, default=200_000, help="items")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/big-import"), help="folder of the data")
    parser.add_argument("--min-count", type=int, default=5, help="k of the k-core filter")
    parser.add_argument(
        "--skip", nargs="*", default=[], help="steps to leave out: csv, parquet, embed, tokenize"
    )
    parser.add_argument("--save", metavar="NAME", help="write the figures to benchmarks/results/NAME.json")
    parser.add_argument(
        "--reuse", action="store_true", help="take the data that a benchmark left in --folder when it was cut"
    )
    options = parser.parse_args()
    folder, workspace = options.folder, options.folder / "workspace"
    if not options.reuse:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = time.monotonic()
        make(folder, options.rows, options.items, options.seed)
        print(f"Made {options.rows:,} interactions in {time.monotonic() - began:.0f} s.", file=sys.stderr)
    shutil.rmtree(workspace, ignore_errors=True)
    found: dict[str, dict[str, float]] = {}
    imported = ("--items", folder / "items.parquet", "--min-count", options.min_count)
    steps = {
        "csv": ("import", "csv", "--interactions", folder / "log.csv", *imported),
        "parquet": ("import", "parquet", "--interactions", folder / "log.parquet", *imported),
        "embed": ("embed", "--encoder", "lsa"),
        "tokenize": ("tokenize",),
    }
    for name, command in steps.items():
        if name not in options.skip:
            count = options.rows if command[0] == "import" else options.items
            used = measured(*command, workspace=workspace)
            found[name] = used | {"rows_per_second": round(count / used["seconds"])}
            if options.save:  # after every step, so that a cut loses nothing
                load = [round(share, 1) for share in os.getloadavg()]
                figures = {"rows": options.rows, "items": options.items, "load": load, "measured": found}
                save(options.save, figures)
    headers = ["step", "rows/s", "seconds", "processor seconds", "peak GiB"]
    rows = [
        (name, f"{f['rows_per_second']:,}", *(f"{f[k]:,}" for k in ("seconds", "cpu_seconds", "peak_gib")))
        for name, f in found.items()
    ]
    console.table(f"{options.rows:,} interactions", headers, rows, artifacts.machine())
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
