"""What a command builds for itself when its input is missing: embeddings and semantic IDs, with defaults, and said."""

from __future__ import annotations

from pipelines import artifacts
from pipelines.errors import UserError
from pipelines.progress import Progress
from pipelines.tokenize.config import TokenizeConfig, default_name
from pipelines.workspace import Dataset

DEFAULT_EMBEDDING = "lsa"


def ensure_embedding(dataset: Dataset, name: str | None, progress: Progress) -> str:
    """The embedding to use: the one named, else the newest, else LSA made now.

    Raises:
        UserError: the named one does not exist.
    """
    if name is None and not dataset.all_embeddings:
        from pipelines.embed.build import build_embeddings
        from pipelines.embed.config import EmbedConfig

        progress.say(
            f"No embeddings of {dataset.name} yet: making {DEFAULT_EMBEDDING} ones (`maskgr embed` makes others)."
        )
        build_embeddings(dataset, EmbedConfig(), progress)
    return dataset.require_embeddings(name).stem


def ensure_sids(dataset: Dataset, config: TokenizeConfig, embedding: str | None, progress: Progress) -> str:
    """The semantic IDs to use, made now where they are missing or what they were made from changed.

    Returns:
        their name.
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
    """The semantic IDs of that name, as they are; what they were made from may have changed, which is said.

    Raises:
        UserError: there are none of that name.
    """
    path = dataset.sids(name)
    if not path.exists():
        have = ", ".join(found.stem for found in dataset.all_sids) or "none"
        raise UserError(
            f"No semantic IDs {name!r} in {path.parent} (it holds {have}). Make them with `maskgr tokenize --name {name}`, "
            "or name others with --semantic-ids."
        )
    reason = artifacts.stale(path) if artifacts.provenance(path) else None  # a person's own have none
    if reason:
        progress.say(
            f"Semantic IDs {name} of {dataset.name} are used as they are, though {reason} (`maskgr tokenize` makes others)."
        )
    return name
