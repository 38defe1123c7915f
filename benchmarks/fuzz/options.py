"""Values of every option of every command, up to the point where work would begin."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import random
import sys
import tempfile
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from unittest import mock

import typer

import maskgr_cli.app
from benchmarks.fuzz.counts import Counts
from maskgr_cli.app import app
from pipelines.ablate.options import KINDS
from pipelines.models.registry import MODELS

SECONDS = 20.0  # of computing: a command that has not begun, or said no, by then hangs
BASE = {  # what a command needs beside the option that is tried
    "download": ["beauty"],
    "import": ["toy", "--interactions", "interactions.csv"],
    "train": ["--dataset", "toy"],
    "tune": ["--dataset", "toy"],
    "ablate": ["--dataset", "toy"],
}
WORK = (  # where each command's work begins
    "pipelines.download.build.download_dataset",
    "pipelines.import_.build.import_dataset",
    "pipelines.workspace.Workspace.require_dataset",
    "pipelines.workspace.Workspace.require_run",
    "maskgr_cli.commands.ablate.keep_freed_memory",
    "maskgr_cli.commands.ablate._work",
    "pipelines.ablate.report.write_index",
    "pipelines.inventory.overview",
)
BEYOND = ["-1e30", str(-(10**30)), str(2**63), str(10**30), "1e308", "nan", "inf", "-inf"]  # within no bounds
NUMBERS = [
    *BEYOND,
    "-1",
    "0",
    "1",
    "2",
    "0.5",
    "1e-300",
    str(2**31 - 1),
    str(2**31),
    str(2**32),
    "9" * 5000,
    "٣",
    "1_000",
    " 7",
    "0x10",
]
TEXTS = [
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "~",
        "~nobody/x",
        "/proc/x",
        "/dev/null",
        "/etc/passwd/x",
        "a/b",
        "-x",
        "--",
        "=",
        "NUL",
        "ü",
        "名前",
    ),
    *(
        "x" * 129,
        "x" * 300,
        "x/" * 300,
        "x" * 5000,
        "a\nb",
        "a\0b",
        "\x1b]0;title\x07",
        "\x9b31m",
        "a\u202eb",
        "\udcff",
        "\ud800",
    ),
    *(
        "http://[::1",
        "http://",
        "http://a:99999",
        "ftp://x",
        "https://x/%00",
        "a,b,,",
        ",",
        "1..99999999",
        "1..0",
        "yes",
        "none",
        "{}",
    ),
    *(
        "%s",
        "{0}",
        "$(id)",
        "*.toml",
        "table1",
        "table1.toml",
        "nan",
        "1e999",
        "1,2,2",
        "1," * 200,
        "[bold]x[/bold]",
        ":smile:",
    ),
]


class Began(BaseException):
    """The command was accepted: its work would begin."""


@dataclass(frozen=True)
class Typed:
    """An option, or an argument (without a flag), of a command."""

    command: str
    flag: str
    kinds: tuple[type, ...]
    before: tuple[str, ...] = ()  # what must be typed for the option to mean something

    @property
    def is_number(self) -> bool:
        return int in self.kinds or float in self.kinds


def typed_options() -> list[Typed]:
    """Every option and argument of every command that takes a value."""
    found = []
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            if typing.get_origin(parameter.annotation) is not typing.Annotated:
                continue
            kind, shown = typing.get_args(parameter.annotation)[:2]
            kinds = _swept(parameter.name) if name == "ablate" and shown.metavar else _leaves(kind)
            if bool in kinds:
                continue
            declared = [word for word in shown.param_decls or () if word.startswith("--")]
            flag = (
                ""
                if isinstance(shown, typer.models.ArgumentInfo)
                else (declared or [f"--{parameter.name.replace('_', '-')}"])[0]
            )
            found.append(Typed(name, flag, kinds, _model_of(name, parameter.name)))
    return found


def outcome(*arguments: str) -> tuple[str, str]:
    """Run a command line in this process: "accepted", "refused" or "fault", and what was said."""
    said, began = io.StringIO(), time.process_time()
    with (
        mock.patch.object(sys, "argv", ["maskgr", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO()),  # whoever asks a question ends
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            maskgr_cli.app.main()
            code = 0
        except Began:
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:  # of any kind: that is what is looked for
            code = f"{type(error).__name__}: {error}"
    text, seconds = said.getvalue(), time.process_time() - began
    obeyed = [c for c in text if c != "\n" and not c.isprintable() and not c.isspace()]
    if code not in (0, 2) or "Traceback" in text or obeyed or seconds > SECONDS:
        return "fault", f"exit code {code}, {seconds:.1f} s, {text!r}"
    return ("refused" if code else "accepted"), text


@contextlib.contextmanager
def without_work() -> Iterator[None]:
    """Commands end where their work would begin, in an empty folder of their own; the command line is made once for all."""
    here, group = Path.cwd(), typer.main.get_command(app)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {"MASKGR_WORKSPACE": str(Path(folder, "workspace"))}))
        for place in WORK:
            stack.enter_context(mock.patch(place, side_effect=Began))
        stack.enter_context(mock.patch.object(maskgr_cli.app, "app", group))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(here)


def run(count: int, seed: int) -> Counts:
    """Try `count` values, spread over all options, drawn from nasty and random ones."""
    draw, every = random.Random(seed), typed_options()
    found = Counts("options", 0, 0, 0, [])
    with without_work():
        for number in range(count):
            if number % len(every) == 0:
                draw.shuffle(every)
            option = every[number % len(every)]
            value = _number(draw) if option.is_number and draw.random() < 0.8 else _text(draw)
            result, said = outcome(*arguments(option, value))
            found.tried += 1
            found.refused += result == "refused"
            found.accepted += result == "accepted"
            if result == "fault":
                found.faults.append(
                    f"maskgr {' '.join(map(ascii, arguments(option, value)))[:300]}: {said[:300]}"
                )
    return found


def arguments(option: Typed, value: str) -> list[str]:
    """A command line with that value."""
    if not option.flag:
        return [option.command, value, *BASE.get(option.command, [])[1:]]
    return [option.command, *BASE.get(option.command, []), *option.before, option.flag, value]


def _number(draw: random.Random) -> str:
    makers: list[Callable[[], object]] = [
        lambda: draw.choice(NUMBERS),
        lambda: draw.randint(-(10**6), 10**6),
        lambda: draw.choice((-1, 1)) * 10 ** draw.randint(0, 40),
        lambda: draw.uniform(-2, 2),
        lambda: draw.choice((-1, 1)) * 10 ** draw.uniform(-300, 300),
    ]
    return str(draw.choice(makers)())


def _text(draw: random.Random) -> str:
    if draw.random() < 0.7:
        return draw.choice(TEXTS)
    return "".join(
        chr(
            draw.choice(
                (draw.randint(0, 0x24F), draw.randint(0x2000, 0x206F), draw.randint(0xD800, 0x10FFFF))
            )
        )
        for _ in range(9)
    )


def _leaves(kind: typing.Any) -> tuple[type, ...]:
    parts = typing.get_args(kind)
    return tuple(leaf for part in parts for leaf in _leaves(part)) if parts else (kind,)


def _swept(option: str) -> tuple[type, ...]:
    return next(_leaves(options[option]) for options in KINDS.values() if option in options)


def _model_of(command: str, field: str) -> tuple[str, ...]:
    having = [name for name, config in MODELS.items() if field in {f.name for f in fields(config)}]
    return (
        ("--model", having[0])
        if having and len(having) < len(MODELS) and command in ("train", "tune", "ablate")
        else ()
    )
