"""Removal of parts of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from pipelines.durable import staging
from pipelines.errors import UserError
from pipelines.housekeeping.parts import (
    COMPARISON,
    DATASET,
    EMBEDDINGS,
    KINDS,
    RUN,
    SIDS,
    STUDY,
    TARGETS,
    Part,
    all_parts,
    find_part,
    sources,
)
from pipelines.housekeeping.use import unused
from pipelines.workspace import Workspace

MOST_NAMED = 5  # dependents that a message names; it counts the others


def to_remove(workspace: Workspace, names: Sequence[str], with_dependents: bool) -> list[Part]:
    """Return the parts that a removal takes: the named ones, and those that were made from them.

    Args:
        names: names of parts.
        with_dependents: if true, parts that were made from the named ones are taken too.

    Returns:
        Parts, none of which lies inside another; each before those that it was made from, since a part is
        made from parts of kinds before its own.

    Raises:
        UserError: a part does not exist, or others were made from it and `with_dependents` is false.
    """
    named = list(dict.fromkeys(find_part(workspace, name) for name in names))
    chosen = [part for part in named if not any(part.is_in(other) for other in named)]
    others = dependents(workspace, chosen)
    if others and not with_dependents:
        shown = ", ".join(part.name for part in others[:MOST_NAMED])
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        verb, them = ("depends", "it") if len(others) == 1 else ("depend", "them")
        raise UserError(
            f"{shown}{more} {verb} on {', '.join(part.name for part in chosen)}. Remove {them} too with "
            "--with-dependents."
        )
    return sorted([*chosen, *others], key=lambda part: KINDS.index(part.kind), reverse=True)


def dependents(workspace: Workspace, parts: Sequence[Part]) -> list[Part]:
    """Return the parts outside of the given ones that were made from them, directly or not."""
    gone = list(parts)
    candidates = {
        part: sources(workspace, part)
        for part in all_parts(workspace, EMBEDDINGS, SIDS, RUN, TARGETS, STUDY, COMPARISON)
    }
    for part in gone:  # grows in the loop
        for candidate, made_from in candidates.items():
            if candidate in gone or any(candidate.is_in(other) for other in gone):
                continue
            if any(source == part.name or source.startswith(f"{part.name}/") for source in made_from):
                gone.append(candidate)
    return gone[len(parts) :]


def remove(workspace: Workspace, parts: Sequence[Part]) -> None:
    """Remove parts: all are renamed away, and then deleted.

    If a part cannot be renamed, all stay. A kill in between leaves no part without one that it was made from,
    if the parts are ordered as by `to_remove`.

    Raises:
        UserError: a running command works on one of the parts.
        OSError: a part cannot be renamed.
    """
    with unused(workspace, parts), ExitStack() as stack:
        paths = [path for part in parts for path in part.paths]
        discarded = {
            parent: stack.enter_context(staging(parent)) for parent in {path.parent for path in paths}
        }
        moved: list[tuple[Path, Path]] = []
        try:
            for path in paths:
                target = discarded[path.parent] / path.name
                path.rename(target)
                moved.append((path, target))
        except BaseException:
            for path, target in reversed(moved):
                target.rename(path)
            raise
        with suppress(UserError):  # workspace.json is damaged
            if any(part.kind == DATASET and part.path.name == workspace.current for part in parts):
                workspace.use(None)
    for part in parts:
        if part.kind == COMPARISON:
            with suppress(OSError):  # the folder holds other comparisons
                part.path.parent.rmdir()
                part.path.parent.parent.rmdir()
