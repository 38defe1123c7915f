"""Bad values for every option of every command, tried up to the point where the work would begin."""

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
from maskgr_cli.commands import COMMANDS
from maskgr_cli.lazy import registered
from pipelines.ablate.options import STAGE_OPTIONS
from pipelines.models.registry import MODELS

SECONDS = 20.0  # CPU time; a command that has neither begun nor refused by then counts as a hang
BASE = {  # arguments that a command needs besides the option that is tried
    "download": ["beauty"],
    "import": ["toy", "--interactions", "interactions.csv"],
    "data export": ["toy", "--output", "folder"],
    "data forget": ["--user", "someone"],
    "train": ["--dataset", "toy"],
    "tune": ["--dataset", "toy"],
    "ablate": ["--dataset", "toy"],
    "recommend": ["--user", "someone"],
    "export": ["--output", "folder", "--onnx"],
    "items show": ["item"],
    "items similar": ["item"],
    "items add": ["new.csv"],
    "rename": ["runs/first", "second"],
}
SEQUENCES = ["toy", "--items", "items.csv"]  # the same for an import of sequences
WORK = (  # functions in which each command's work begins
    "pipelines.download.build.download_dataset",
    "pipelines.import_.build.import_dataset",
    "pipelines.import_.listed.import_sequences",
    "pipelines.workspace.Workspace.require_dataset",
    "pipelines.workspace.Workspace.require_run",
    "maskgr_cli.commands.ablate.keep_freed_memory",
    "maskgr_cli.commands.ablate._run_job",
    "pipelines.ablate.report.write_index",
    "pipelines.inventory.overview",
    "pipelines.housekeeping.remove.to_remove",
    "pipelines.housekeeping.rename.rename",
    "pipelines.doctor.machine.packages",
)
OUT_OF_BOUNDS = [
    "-1e30",
    str(-(10**30)),
    str(2**63),
    str(10**30),
    "1e308",
    "nan",
    "inf",
    "-inf",
]  # beyond any bounds
NUMBERS = [
    *OUT_OF_BOUNDS,
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
    """Raised where the work of a command would begin: its arguments are accepted."""


@dataclass(frozen=True)
class Option:
    """An option or an argument of a command.

    Attributes:
        command: name of the command, after that of its group if it has one.
        flag: flag of the option; "" for an argument.
        kinds: types of the value.
        before: arguments without which the option has no effect.
    """

    command: str
    flag: str
    kinds: tuple[type, ...]
    before: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """True if the value is a number."""
        return int in self.kinds or float in self.kinds


def all_options() -> list[Option]:
    """Return every option and argument of every command that takes a value."""
    options = []
    for name, command in all_commands().items():
        assert command.callback
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            if typing.get_origin(parameter.annotation) is not typing.Annotated:
                continue
            kind, declaration = typing.get_args(parameter.annotation)[:2]
            swept = name == "ablate" and declaration.metavar
            kinds = _swept_types(parameter.name) if swept else _leaf_types(kind)
            if bool in kinds:
                continue
            # Inside Annotated, Typer takes the first flag for a default value.
            words = (declaration.default, *(declaration.param_decls or ()))
            flags = [word for word in words if isinstance(word, str) and word.startswith("-")]
            flag = (flags or [f"--{parameter.name.replace('_', '-')}"])[0]
            if isinstance(declaration, typer.models.ArgumentInfo):
                flag = ""
            options.append(Option(name, flag, kinds, _model_arguments(name, parameter.name)))
    return options


def all_commands() -> dict[str, typer.models.CommandInfo]:
    """Return every command by its name, after that of its group if it has one."""
    found = {}
    for module in dict.fromkeys(module for module, _ in COMMANDS.values()):
        app = registered(module)
        groups = [("", app), *((f"{group.name} ", group.typer_instance) for group in app.registered_groups)]
        found |= {
            f"{prefix}{command.name or command.callback.__name__}": command
            for prefix, group in groups
            for command in group.registered_commands
        }
    return found


def outcome(*arguments: str) -> tuple[str, str]:
    """Run a command line in this process.

    Returns:
        "accepted", "refused" or "fault"; and the output, or a description of the fault.
    """
    output, began = io.StringIO(), time.process_time()
    code: int | str
    with (
        mock.patch.object(sys, "argv", ["maskgr", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO()),  # a question finds no answer
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        try:
            maskgr_cli.app.main()
            code = 0
        except Began:
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:  # any other exception is a fault
            code = f"{type(error).__name__}: {error}"
    text, seconds = output.getvalue(), time.process_time() - began
    control = [c for c in text if c != "\n" and not c.isprintable() and not c.isspace()]
    if code not in (0, 2) or "Traceback" in text or control or seconds > SECONDS:
        return "fault", f"exit code {code}, {seconds:.1f} s, {text!r}"
    return ("refused" if code else "accepted"), text


@contextlib.contextmanager
def without_work() -> Iterator[None]:
    """End commands where their work would begin, in an empty folder.

    The command line's parser is built once for all commands.
    """
    before, group = Path.cwd(), typer.main.get_command(app)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {"MASKGR_WORKSPACE": str(Path(folder, "workspace"))}))
        for function in WORK:
            stack.enter_context(mock.patch(function, side_effect=Began))
        stack.enter_context(mock.patch.object(maskgr_cli.app, "app", group))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def run(count: int, seed: int) -> Counts:
    """Try bad and random values of all options.

    Args:
        count: number of values.
        seed: seed of the values.
    """
    rng, options = random.Random(seed), all_options()
    counts = Counts("options", 0, 0, 0, [])
    with without_work():
        for number in range(count):
            if number % len(options) == 0:
                rng.shuffle(options)
            option = options[number % len(options)]
            value = _number(rng) if option.is_number and rng.random() < 0.8 else _text(rng)
            command = arguments(option, value)
            result, message = outcome(*command)
            counts.tried += 1
            counts.refused += result == "refused"
            counts.accepted += result == "accepted"
            if result == "fault":
                counts.faults.append(f"maskgr {' '.join(map(ascii, command))[:300]}: {message[:300]}")
    return counts


def arguments(option: Option, value: str) -> list[str]:
    """Return a command line that sets an option to a value."""
    if option.flag == "--sequences":
        return [option.command, *SEQUENCES, option.flag, value]
    if not option.flag:
        return [*option.command.split(), value, *BASE.get(option.command, [])[1:]]
    return [*option.command.split(), *BASE.get(option.command, []), *option.before, option.flag, value]


def _number(rng: random.Random) -> str:
    makers: list[Callable[[], object]] = [
        lambda: rng.choice(NUMBERS),
        lambda: rng.randint(-(10**6), 10**6),
        lambda: rng.choice((-1, 1)) * 10 ** rng.randint(0, 40),
        lambda: rng.uniform(-2, 2),
        lambda: rng.choice((-1, 1)) * 10 ** rng.uniform(-300, 300),
    ]
    return str(rng.choice(makers)())


def _text(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(TEXTS)
    return "".join(
        chr(rng.choice((rng.randint(0, 0x24F), rng.randint(0x2000, 0x206F), rng.randint(0xD800, 0x10FFFF))))
        for _ in range(9)
    )


def _leaf_types(kind: typing.Any) -> tuple[type, ...]:
    """Return the types of a union, of its parts, and of their parts."""
    parts = typing.get_args(kind)
    return tuple(leaf for part in parts for leaf in _leaf_types(part)) if parts else (kind,)


def _swept_types(option: str) -> tuple[type, ...]:
    """Return the types of an option of which `ablate` takes several values."""
    return next(_leaf_types(options[option]) for options in STAGE_OPTIONS.values() if option in options)


def _model_arguments(command: str, field: str) -> tuple[str, ...]:
    """Return the arguments that choose a model with a field, where not every model has it."""
    models = [name for name, config in MODELS.items() if field in {f.name for f in fields(config)}]
    some = models and len(models) < len(MODELS)
    return ("--model", models[0]) if some and command in ("train", "tune", "ablate") else ()
