"""Embeddings and semantic IDs that a command needs.

They are found in the workspace, or made with default settings. A message reports what is made.
"""

from __future__ import annotations

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig, default_name
from pipelines.workspace import Dataset

DEFAULT_EMBEDDING = "lsa"  # of items with texts


def ensure_embedding(dataset: Dataset, name: str | None, progress: Progress) -> str:
    """Return the name of the embeddings to use.

    These are the named ones, else the newest ones. If there are none at all and no name is given, they are
    made: by LSA, or from interactions if no item has text.

    Raises:
        UserError: the named embeddings do not exist, or embeddings cannot be made.
    """
    if name is None and not dataset.all_embeddings:
        from pipelines.embed.build import build_embeddings, choose_encoder
        from pipelines.embed.config import EmbedConfig

        encoder = choose_encoder(dataset, progress)
        progress.say(
            f"No embeddings of {dataset.name} yet: making {encoder} ones (`maskgr embed` makes others)."
        )
        build_embeddings(dataset, EmbedConfig(encoder=encoder), progress)
    return dataset.require_embeddings(name).stem


def ensure_sids(dataset: Dataset, config: TokenizeConfig, embedding: str | None, progress: Progress) -> str:
    """Return the name of the semantic IDs with the given settings.

    The semantic IDs are made if they are missing or if the files that they were made from changed.

    Args:
        embedding: name of the embeddings, see `ensure_embedding`.

    Raises:
        UserError: the named embeddings do not exist, or embeddings or semantic IDs cannot be made.
    """
    embedding = ensure_embedding(dataset, embedding, progress)
    name = default_name(embedding, config)
    reason = artifacts.stale(dataset.sids(name))
    if reason:
        from pipelines.tokenize.build import build_sids

        progress.say(f"Semantic IDs {name} of {dataset.name} must be made: {reason}.")
        build_sids(dataset, config, progress, embedding=embedding)
    return name


def named_sids(dataset: Dataset, name: str, progress: Progress) -> str:
    """Return `name` if semantic IDs of that name exist.

    They are used as they are. If the files that they were made from changed, a message says so.

    Raises:
        UserError: there are no semantic IDs of that name.
    """
    path = dataset.sids(name)
    if not path.exists():
        names = ", ".join(path.stem for path in dataset.all_sids) or "none"
        raise UserError(
            f"No semantic IDs {name!r} in {path.parent} (it holds {names}). "
            f"Make them with `maskgr tokenize --name {name}`, or name others with --semantic-ids."
        )
    reason = (
        artifacts.stale(path) if artifacts.provenance(path) else None
    )  # the user's own file has no provenance
    if reason:
        progress.say(
            f"Semantic IDs {name} of {dataset.name} are used as they are, though {reason} "
            "(`maskgr tokenize` makes others)."
        )
    return name
