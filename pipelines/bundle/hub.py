"""Bundles on the Hugging Face Hub, or on another server that HF_ENDPOINT names.

Tested against a local server that speaks the same protocol; not against the live site.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines import __version__
from pipelines.bundle.config import checked_repository
from pipelines.errors import UserError
from pipelines.options import quoted

HUB = "hf:"  # prefix of the name of a bundle on the hub


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload a bundle, into a repository that is created if it is missing.

    Args:
        folder: the bundle.
        repository: OWNER/NAME.
        private: if true, nobody else sees a repository that is created.

    Returns:
        Address of the repository.

    Raises:
        UserError: the server refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi  # takes a second to import

    api = HfApi(library_name="maskgr", library_version=__version__)
    with (
        _explained(f"{repository} cannot be written", "Log in with: hf auth login"),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=f"Export of maskgr {__version__}"
        )
    return str(url)


def fetch(name: str) -> Path:
    """Download a bundle, or find it among those downloaded before.

    Args:
        name: "hf:OWNER/NAME", or "hf:OWNER/NAME@REVISION" with a branch, tag or commit.

    Returns:
        Folder of the bundle in the cache of huggingface_hub.

    Raises:
        UserError: the name is no repository, or the repository cannot be read.
    """
    repository, _, revision = name.removeprefix(HUB).partition("@")
    checked_repository("The bundle", repository)
    if "@" in name and not revision:
        raise UserError(f"{quoted(name)} names no revision after @. Leave @ out, or name a branch or commit.")
    from huggingface_hub import snapshot_download  # takes a second to import

    with _explained(f"{name} cannot be read", "Check the name; a private one needs: hf auth login"):
        folder = snapshot_download(
            repository, revision=revision or None, library_name="maskgr", library_version=__version__
        )
    return Path(folder)


@contextmanager
def _explained(problem: str, advice: str) -> Iterator[None]:
    """Turn an error of huggingface_hub into a UserError of one line."""
    try:
        yield
    except Exception as error:  # the classes differ between its versions
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines[0] if lines else type(error).__name__).rstrip(".")
        raise UserError(f"{problem} ({reason}). {advice}") from error
