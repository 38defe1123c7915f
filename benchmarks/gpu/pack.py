"""`make gpu-pack`: the folder that `make gpu-check` needs on a bare machine, and the commands to type there.

It is a small workspace with Beauty, as far as training and evaluation read it: items, sequences, embeddings
(lsa) and semantic IDs (4 × 256).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.common import RESULTS
from maskgr_cli import console
from pipelines.defaults import ensure_sids
from pipelines.durable import staging, whole
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig
from pipelines.workspace import Dataset, Workspace

ROOT = RESULTS.parents[1]
PACK = ROOT / "data" / "gpu-pack"  # git ignores it
KEPT = ROOT / "build" / "gpu-check"  # of the JSON that the next call reads; git ignores it
NAME, ENCODER = "beauty", "lsa"
MOST_BYTES = 16 * 2**20
CHECK = "python3 -m benchmarks.gpu --total-minutes 6"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.pack", description=__doc__)
    parser.add_argument(
        "--beauty",
        type=Path,
        help="folder with Beauty's interactions.parquet and items.parquet, to be imported; without it, the "
        "data set `beauty` of the workspace is taken",
    )
    options = parser.parse_args()
    progress = console.RichProgress()
    try:
        if options.beauty:
            with staging(PACK.parent) as folder:
                size = pack(imported(options.beauty, Workspace(folder), progress), PACK, progress)
        else:
            size = pack(Workspace.find().require_dataset(NAME), PACK, progress)
    except UserError as error:
        sys.exit(f"{error}\nmake gpu-pack BEAUTY=FOLDER imports Beauty from a folder.")
    console.result(
        f"{PACK.relative_to(ROOT)}: {size / 2**20:.1f} MiB. Carry it, and type there, in the checkout:"
    )
    console.result(f"  {CHECK}")
    console.result(f"  {CHECK}")
    console.result(
        f"The second call goes on where the first ended, by {KEPT.relative_to(ROOT)}; on another machine, "
        "carry that folder with the JSON of the first call too. Results: $OUT if it is set, else "
        f"{RESULTS.relative_to(ROOT)}."
    )


def imported(folder: Path, workspace: Workspace, progress: Progress) -> Dataset:
    """Import Beauty from a folder into a workspace."""
    from pipelines.import_.build import import_dataset
    from pipelines.import_.config import ImportConfig

    files = {kind: [folder / f"{kind}.parquet"] for kind in ("interactions", "items")}
    return import_dataset(workspace, NAME, ImportConfig(), progress, **files)


def pack(dataset: Dataset, target: Path, progress: Progress) -> int:
    """Write the folder to carry, with embeddings and semantic IDs, which are made if they are missing.

    Args:
        dataset: Beauty.
        target: the folder; what it held before is removed.
        progress: receives messages.

    Returns:
        Size in bytes.

    Raises:
        UserError: a file cannot be made or written, or the folder would be larger than 16 MiB.
    """
    from pipelines.embed.build import build_embeddings
    from pipelines.embed.config import EmbedConfig

    build_embeddings(dataset, EmbedConfig(encoder=ENCODER), progress)
    sids = ensure_sids(dataset, TokenizeConfig(), ENCODER, progress)

    def parts(of: Dataset) -> list[Path]:
        return [of.items, of.sequences, of.embeddings(ENCODER), of.codebooks(sids), of.sids(sids)]

    size = sum(path.stat().st_size for path in parts(dataset))
    if size > MOST_BYTES:
        raise UserError(
            f"What the check needs of {dataset.name} takes {size / 2**20:.1f} MiB, more than "
            f"{MOST_BYTES // 2**20} MiB: {', '.join(path.name for path in parts(dataset))}."
        )
    with whole(target) as folder:
        workspace = Workspace(folder)
        for source, copy in zip(parts(dataset), parts(workspace.dataset(dataset.name)), strict=True):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        workspace.use(dataset.name)
    return size


if __name__ == "__main__":
    main()
