"""The `maskgr` program: it turns errors into one message and an exit code.

No module that is slow to import is imported here or at the top of a command's file, so that `maskgr --help`
answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated

import typer

from maskgr_cli import launch, signals
from maskgr_cli.arguments import Arguments
from maskgr_cli.console import QUIET
from pipelines import __version__
from pipelines.errors import TrainingDiverged, UserError, is_lost_process, is_out_of_memory

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # full, over quota, read-only
WIDEST = 10_000  # columns of a help text; it is as wide as the terminal

app = typer.Typer(
    name="maskgr",
    cls=Arguments,
    help="Generative recommendation by masked diffusion over semantic IDs (MaskGR, arXiv 2511.23021).",
    no_args_is_help=True,
    rich_markup_mode=None,  # see `lazy`
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)


def _version(value: bool) -> None:
    if value:
        print(f"maskgr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also: MASKGR_DEBUG=1).")] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", envvar=QUIET, help="Print results and errors only: no progress and no notes."
        ),
    ] = False,
) -> None:
    if debug:
        os.environ["MASKGR_DEBUG"] = "1"  # child processes of --gpus and --jobs inherit it
    if quiet:
        os.environ[QUIET] = "1"
    launch.check_launcher(context.invoked_subcommand)


def main() -> None:
    """Run the program and exit.

    Exit codes: 0 success, 1 a fault of maskgr, a training that diverged or the loss of another process, 2 an
    error of the user, 130 interrupted (SIGINT), 143 terminated (SIGTERM).
    """
    code = 1
    # A signal may raise between the end of the command and the end of the block.
    with suppress(KeyboardInterrupt), signals.raise_on_signal():
        code = _run()
        if code == 0:
            _part()
    signals.ignore()
    sys.exit(128 + signals.caught[0] if signals.caught else code)


def _part() -> None:
    """Leave the group of processes, whose threads would otherwise abort the interpreter at its end."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _run() -> int:
    """Run the command line and return its exit code."""
    try:
        app()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if signals.caught:
            return 1  # a library turned the signal into this exception
        from maskgr_cli import console

        if os.environ.get("MASKGR_DEBUG"):
            console.debug(traceback.format_exc())
            return 1

        if isinstance(error, (UserError, TrainingDiverged)):
            console.error(str(error))
            return 2 if isinstance(error, UserError) else 1
        if isinstance(error, OSError) and (error.filename or error.errno in DISK_ERRORS):
            console.error(
                f"{error.filename or 'The disk'}: {error.strerror}. "
                "Check that path, its permissions and the space left."
            )
            return 2
        if is_out_of_memory(error):
            console.error(
                "The memory is too small for this command. Close other programs, or run it on a machine with "
                "more."
            )
            return 2
        if is_lost_process(error):
            console.error(
                "Another process of this command has ended, here or on another machine; this one cannot go "
                "on. See its message. Then run the command again everywhere, a training with --resume."
            )
            return 1
        console.error(
            f"maskgr failed: {type(error).__name__}: {error}. "
            "This is a fault of maskgr, not yours. Run again with `maskgr --debug …` for the traceback."
        )
        return 1
    return 0


if __name__ == "__main__":
    main()
