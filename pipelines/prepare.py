"""What a command builds for itself when its input is missing: embeddings and semantic IDs, with defaults, and said."""

from __future__ import annotations

from pipelines import artifacts
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

        progress.say(f"No embeddings of {dataset.name} yet: making {DEFAULT_EMBEDDING} ones (`maskgr embed` makes others).")
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
