"""Configuration files of a training: they repeat a run, and the command line wins over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from maskgr_cli.app import app
from pipelines.defaults import ensure_sids
from pipelines.errors import UserError
from pipelines.models.registry import MODELS
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train.configure import configure
from pipelines.train.derived import continued_plan, final_plan
from pipelines.train.explain import explain
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.settings_file import read_settings, settings_of_plan, settings_text
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.train.conftest import plan

Train = Callable[..., tuple[Plan, str | None]]


@pytest.fixture
def command(toy: Workspace) -> Callable[..., Result]:
    """Run `maskgr train` in this process."""

    def run(*options: object) -> Result:
        arguments = ["train", "--workspace", str(toy.root), *map(str, options)]
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return run


@pytest.fixture
def made(toy: Workspace, command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Train:
    """Return the plan and the name of the run that `maskgr train` would train."""
    trained: list[tuple[Plan, str | None]] = []

    def record(place: Workspace, plan: Plan, *_: object, name: str | None, **__: object) -> Run:
        trained.append((plan, name))
        return place.run("none")

    monkeypatch.setattr("pipelines.train.run.train_run", record)
    monkeypatch.setattr("maskgr_cli.commands.train.keep_freed_memory", lambda: None)

    def run(*options: object) -> tuple[Plan, str | None]:
        command(*options)
        return trained[-1]

    return run


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a configuration file."""

    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def named(toy: Workspace, progress: ListProgress) -> str:
    return ensure_sids(toy.require_dataset(), TokenizeConfig(2, 16), None, progress)


@pytest.mark.parametrize("preset", ["paper", "small"])
def test_the_file_of_a_plan_gives_the_plan(
    toy: Workspace, named: str, made: Train, file: Callable[[str], Path], preset: str
) -> None:
    """For every model. Without a name in the file, the run has its default name again."""
    for model in MODELS:
        settings, schedule = configure(model, preset, {"seed": 7})
        plan = Plan("toy", named if settings.needs else None, model, preset, settings, schedule)
        values = settings_of_plan(plan, "again")
        assert values.pop("name") == "again"
        found, name = made("--config", file(settings_text(values, "comment")))
        assert (found, found.name, name) == (plan, plan.name, None)


def test_a_run_keeps_its_file(
    toy: Workspace, sids: str, progress: ListProgress, command: Callable[..., Result]
) -> None:
    """Of an ordinary run, a final run, and runs that continue these."""
    run = train_run(toy, dataclasses.replace(plan(sids, steps=3), preset="smoke"), progress, name="run")
    final = train_run(toy, final_plan(toy, run), progress, name="run-final")
    train_run(toy, continued_plan(run, {"steps": 2}), progress, name="run-continued")
    train_run(toy, continued_plan(final, {"steps": 2}), progress, name="run-final-continued")
    for made in toy.runs:
        before = made.config.read_bytes()
        result = command("--config", made.settings)
        assert f"{made.name} is trained already" in result.stderr, result.stderr
        assert made.config.read_bytes() == before
    assert len(toy.runs) == 4
    assert read_settings(final.settings) == {"name": "run-final", "final": "run"}
    assert read_settings(toy.run("run-final-continued").settings)["continue"] == "run-final"
    assert read_settings(run.settings)["semantic-ids"] == sids


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(
    named: str, made: Train, file: Callable[[str], Path]
) -> None:
    path = file(
        'preset = "smoke"\nsids = 2\ncodebook = 16\nlayers = 3\nmlp = 40\ndropout = 0\ndense = true\n'
    )
    plan, _ = made("--config", path, "--layers", 2, "--no-dense")
    settings = plan.model_settings
    assert (settings.layers, settings.mlp, settings.width, settings.dense) == (2, 40, 32, False)
    assert (plan.sids, plan.preset, plan.train.steps) == (named, "smoke", 300)
    sources = {s.key: s.source for s in explain("maskgr", "smoke", {"layers": 2}, {"layers": 3, "mlp": 40})}
    assert {key: sources[key] for key in ("layers", "mlp", "width", "optimizer", "dense-layer")} == {
        "layers": "command line",
        "mlp": "file",
        "width": "preset smoke",
        "optimizer": "default",
        "dense-layer": "rule: half of the layers; the last with --dense-vectors learned",
    }


def test_the_command_line_selects_semantic_ids_anew(
    toy: Workspace, named: str, made: Train, file: Callable[[str], Path]
) -> None:
    dataset = toy.require_dataset()
    dataset.sids(named).rename(dataset.sids("mine"))
    path = file('preset = "smoke"\nsemantic-ids = "mine"\n')
    assert made("--config", path)[0].sids == "mine"
    assert made("--config", path, "--sids", 2, "--codebook", 16)[0].sids == named
    assert made("--config", path, "--model", "sasrec")[0].sids is None
    path = file('preset = "smoke"\nsids = 2\n')
    assert made("--config", path, "--semantic-ids", "mine")[0].sids == "mine"
    for text, options in (
        ('sids = 2\nsemantic-ids = "mine"\n', []),
        ('semantic-ids = "mine"\nmodel = "sasrec"\n', []),
        ("", ["--semantic-ids", "mine", "--sids", "2"]),
    ):
        with pytest.raises(UserError, match="leave out --(sids|semantic-ids)"):
            made("--config", file(text), *options)


def test_a_value_of_the_file_without_effect_is_left_out(
    named: str, made: Train, command: Callable[..., Result], file: Callable[[str], Path]
) -> None:
    """Beside the command line; a file that contradicts itself is refused."""
    text = settings_text(
        settings_of_plan(Plan("toy", named, "maskgr", "small", *configure("maskgr", "small", {})), "x"), ""
    )
    plan, _ = made("--config", file(text), "--likelihood", "digit")
    assert not plan.model_settings.repeat_bias and plan.model_settings.likelihood == "digit"
    result = command("--config", file(text), "--likelihood", "digit")
    assert (
        "Left out of the configuration file, without effect beside the other options: --repeat-bias"
        in result.stderr
    )
    with pytest.raises(UserError, match="--repeat-bias needs --likelihood item"):
        made("--config", file(text.replace('likelihood = "item"', 'likelihood = "digit"')))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lerning-rate = 0.1",
            "settings.toml: maskgr train has no option 'lerning-rate'; similar: learning-rate",
        ),
        ("learning_rate = 0.1", "has no option 'learning_rate'; similar: learning-rate"),
        ("zzz = 1", r"has no option 'zzz'\.$"),
        ("[model]\nlayers = 2", r"settings.toml: \[model\] is a table"),
        ("layers = [2]", "layers is neither text nor a number"),
        ("layers = 2.5", r"layers is 2\.5; it must be a whole number"),
        ("layers = true", "layers is True; it must be a whole number"),
        ("dense = 1", "dense is 1; it must be yes or no"),
        ("dropout = 'a'", "dropout is 'a'; it must be a number"),
        ("model = 3", "model is 3; it must be text"),
        ("model = ' '", "model must be text of 1 to"),
        ("model = 'gru'", "--model 'gru' is unknown"),
        ("steps = 0", "--steps is 0; it must be between"),
        ("dropout = nan", "--dropout is nan"),
        ("force = true", "force is an option of the command line alone"),
        ("layers = 2\nlayers = 3", "cannot be read as TOML"),
        ("x" * 10_000 + " = 1", "has no option 'xxx"),
        ("a." * 5000 + "b = 1", "cannot be read as TOML|is a table"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(
    command: Callable[..., Result], file: Callable[[str], Path], text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        command("--config", file(text))
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(command: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"name = '\xe9'")
    for path, message in (
        ("none", "does not exist"),
        ("", "cannot be read"),
        ("latin", "cannot be read as TOML"),
    ):
        with pytest.raises(UserError, match=message):
            command("--config", tmp_path / path)


def test_settings_are_printed_and_nothing_is_made(
    toy: Workspace, command: Callable[..., Result], made: Train, file: Callable[[str], Path]
) -> None:
    options = ["--preset", "smoke", "--sids", 2, "--codebook", 16, "--layers", 2]
    shown = command(*options, "--print-config")
    lines = {
        line.split("│")[1].strip(): line.split("│")[2:4] for line in shown.stdout.splitlines() if "│" in line
    }
    assert [cell.strip() for cell in lines["layers"]] == ["2", "command line"]
    assert [cell.strip() for cell in lines["steps"]] == ["300", "preset smoke"]
    assert [cell.strip() for cell in lines["dataset"]] == ["toy", "rule: the last downloaded or imported"]
    path = file(command(*options, "--print-config", "--format", "toml").stdout)
    assert not toy.runs and not toy.require_dataset().all_sids
    assert made("--config", path)[0] == made(*options)[0]
    with pytest.raises(UserError, match="--format is the format of --print-config; leave out --format"):
        command("--format", "toml")
    with pytest.raises(UserError, match="--resume continues a run; leave out --print-config"):
        command("--resume", "--config", path, "--print-config")


def test_the_settings_of_a_run_made_from_another_are_printed(
    toy: Workspace, sids: str, progress: ListProgress, command: Callable[..., Result]
) -> None:
    train_run(toy, plan(sids, steps=40), progress, name="run")
    shown = command("--continue", "run", "--print-config", "--seed", 3).stdout
    for words in ("run-continued", "rule: 30% of the first run's 40", "command line", "run run"):
        assert words in shown
    assert command("--final", "run", "--print-config", "--format", "toml").stdout.splitlines()[1:] == [
        'name = "run-final"',
        'final = "run"',
    ]
    with pytest.raises(UserError, match="--final takes its settings from run; leave out --layers"):
        command("--final", "run", "--layers", 2)
    with pytest.raises(UserError, match="--continue takes .* from run; leave out --horizon, --cold"):
        command("--continue", "run", "--horizon", 2, "--cold", 0.1, "--steps", 3)
    with pytest.raises(UserError, match="leave out --continue"):
        command("--final", "run", "--continue", "run")
    assert [made.name for made in toy.runs] == ["run"]


def test_texts_are_written_as_toml_reads_them(file: Callable[[str], Path]) -> None:
    texts = {"a": 'q"\\\t\x7f\x01é\u2028', "b": 1e-05, "c": 1e16, "d": True, "e": 3}
    assert read_settings(file(settings_text({**texts, "f": None}, "comment"))) == texts


def test_options_of_the_machine_are_keys_too(
    command: Callable[..., Result], file: Callable[[str], Path]
) -> None:
    values = {"gpus": 0, "track": "tensorboard", "name": "mine", "dataset": "books"}
    shown = command("--config", file(settings_text(values, "")), "--print-config").stdout
    assert "mine" in shown and "books" in shown
