"""The `maskgr` program: registers the commands, turns errors into one message and an exit code.

Nothing heavy is imported here or at the top of a command's file: `maskgr --help` must answer at once.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from maskgr_cli import console, signals
from maskgr_cli.arguments import Arguments
from maskgr_cli.commands import ablate, download, embed, eval, import_, presets, show, tokenize, train, tune  # noqa: A004
from pipelines import __version__
from pipelines.errors import TrainingDiverged, UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

app = typer.Typer(
    name="maskgr",
    cls=Arguments,
    help="Generative recommendation by masked diffusion over semantic IDs (MaskGR, arXiv 2511.23021).",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # as Rich markup, "[default: …]" would vanish from help texts
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        print(f"maskgr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also: MASKGR_DEBUG=1).")] = False,
) -> None:
    if debug:
        os.environ["MASKGR_DEBUG"] = "1"  # child processes of --gpus inherit it


for command in (download, import_, embed, tokenize, presets, train, tune, eval, ablate, show):
    command.register(app)


def main() -> None:
    """Exit code 0 done, 2 the user's mistake, 1 ours or a training that diverged; 130 interrupted, 143 terminated."""
    with signals.raised() as caught:
        code = _run()
    sys.exit(128 + caught[0] if caught else code)


def _run() -> int:
    """Run the command line; its exit code."""
    try:
        app()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if signals.caught:
            return 1  # what became of the signal in a library
        if os.environ.get("MASKGR_DEBUG"):
            raise
        if isinstance(error, (UserError, TrainingDiverged)):
            console.error(str(error))
            return 2 if isinstance(error, UserError) else 1
        if isinstance(error, OSError) and (error.filename or error.errno in FULL):
            console.error(
                f"{error.filename or 'The disk'}: {error.strerror}. Check that path, its permissions and the space left."
            )
            return 2
        console.error(
            f"maskgr failed: {type(error).__name__}: {error}. "
            "This is a fault of maskgr, not yours. Run again with `maskgr --debug …` for the traceback."
        )
        return 1
    return 0


if __name__ == "__main__":
    main()
