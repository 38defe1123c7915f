"""Hook of MkDocs: links to files of the repository that are no pages of the site.

A link to a page or a picture in docs/ stays one. A link to another file becomes a link to the repository's
address; a picture outside docs/ is copied into the site. A link to a file that does not exist ends the build.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Pages that are made of files at the top of the repository.
OUTSIDE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}
LINK = re.compile(r"(?P<image>!?)(?P<text>\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^()\s]+)\)")
FENCE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
COPIES = "repository"  # folder of the site for pictures from elsewhere in the repository


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that are files at the top of the repository, and the pictures that pages show."""
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for file in list(files.documentation_pages()):
        for image in LINK.finditer(file.content_string):
            path = _path(file.src_uri, image["target"])
            if image["image"] and path and path.is_file() and DOCS not in path.parents:
                copy = f"{COPIES}/{path.relative_to(ROOT).as_posix()}"
                if copy not in files.src_uris:
                    files.append(File.generated(config, copy, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Turn the links of a page; code stays as it is."""
    source = page.file.src_uri

    def turned(link: re.Match[str]) -> str:
        target = target_on_site(source, link["target"], bool(link["image"]), config["repo_url"])
        return f"{link['image']}{link['text']}({target})"

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(turned, part) for part in parts[::2]]
    return "".join(parts)


def _path(source: str, target: str) -> Path | None:
    """Return the file that a page links to; None for an address and for a place of the same page."""
    if re.match(r"[a-z]+:|#", target):
        return None
    folder = ROOT if source in OUTSIDE else (DOCS / source).parent
    return Path(os.path.normpath(folder / target.partition("#")[0]))


def target_on_site(source: str, target: str, image: bool, repository: str) -> str:
    """Return the target of a link as the site needs it.

    Raises:
        PluginError: there is no such file in the repository.
    """
    path = _path(source, target)
    if path is None:
        return target
    _, mark, anchor = target.partition("#")
    pages = {ROOT / file: page for page, file in OUTSIDE.items()}
    if path in pages:
        return f"{pages[path]}{mark}{anchor}"
    if not path.exists() and path.parent != DOCS:
        raise PluginError(f"{source}: the link {target} leads to no file of the repository.")
    if DOCS in path.parents and (path.suffix in {".md", ".svg", ".png"}):
        return f"{path.relative_to(DOCS).as_posix()}{mark}{anchor}"
    inside = path.relative_to(ROOT).as_posix()
    if image:
        return f"{COPIES}/{inside}"
    return f"{repository}/{'tree' if path.is_dir() else 'blob'}/main/{inside}{mark}{anchor}"
