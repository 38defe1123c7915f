"""The `maskgr` program: registers the commands, turns errors into one message and an exit code.

Nothing heavy is imported here or at the top of a command's file: `maskgr --help` must answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from maskgr_cli import console
from maskgr_cli.arguments import Arguments
from maskgr_cli.commands import ablate, download, embed, eval, import_, presets, show, tokenize, train, tune  # noqa: A004
from pipelines import __version__
from pipelines.errors import TrainingDiverged, UserError

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
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also: MASKGR_DEBUG=1).")] = False,
) -> None:
    if debug:
        os.environ["MASKGR_DEBUG"] = "1"  # child processes of --gpus inherit it


for command in (download, import_, embed, tokenize, presets, train, tune, eval, ablate, show):
    command.register(app)


def main() -> None:
    """Entry point: exit code 0 done, 2 the user's mistake, 1 ours or a training that diverged, 130 interrupted."""
    try:
        app()
    except (UserError, TrainingDiverged) as error:
        if os.environ.get("MASKGR_DEBUG"):
            raise
        console.error(str(error))
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        console.error("Interrupted.")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("MASKGR_DEBUG"):
            raise
        console.error(
            f"maskgr failed: {type(error).__name__}: {error}. "
            "This is a fault of maskgr, not yours. Run again with `maskgr --debug …` for the traceback."
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
