"""Bounds of every option of every command: other values are refused in one line before any work begins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from benchmarks.fuzz.options import OUT_OF_BOUNDS, Option, all_options, arguments, outcome, run, without_work
from pipelines.bundle.config import BundleConfig
from pipelines.decode.config import Decoding
from pipelines.download.config import DownloadConfig
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.import_.config import ImportConfig
from pipelines.models.registry import MODELS
from pipelines.options import check, option, quoted
from pipelines.tokenize.config import TokenizeConfig
from pipelines.train import memory
from pipelines.train.config import TrainConfig
from pipelines.train.configure import configure

CONFIGS = (
    *(*MODELS.values(), TrainConfig, TokenizeConfig, EmbedConfig, ImportConfig, DownloadConfig, Decoding),
    BundleConfig,
)


@pytest.fixture(scope="module", autouse=True)
def no_work() -> Iterator[None]:
    with without_work():
        yield


def refused(*typed: str) -> str:
    """Return the error message of a command line that must be refused."""
    result, message = outcome(*typed)
    assert result == "refused", (typed, message)
    return message


def named(typed: Option) -> str:
    return f"{typed.command} {typed.flag}"


@pytest.mark.parametrize("number", [o for o in all_options() if o.is_number], ids=named)
def test_every_number_has_bounds(number: Option) -> None:
    for value in OUT_OF_BOUNDS:
        assert number.flag in refused(*arguments(number, value))
    for value in ("-1", "0", "2147483648"):  # within the bounds of some options
        result, message = outcome(*arguments(number, value))
        assert result == "accepted" or number.flag in message, (value, message)


@pytest.mark.parametrize("words", [o for o in all_options() if not o.is_number], ids=named)
def test_texts_that_are_empty_too_long_or_with_a_nul_are_refused(words: Option) -> None:
    for value in ("", "  ", "x" * 5000, "a\0b"):
        assert (words.flag or "An argument") in refused(*arguments(words, value))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_number_of_a_configuration_declares_both_bounds(config: type) -> None:
    """The test reads the declarations, so that it notices a new option without bounds."""
    for declared in dataclasses.fields(config):
        if any(kind in str(declared.type).split(" | ") for kind in ("int", "float")):
            low, high = declared.metadata["low"], declared.metadata["high"]
            assert math.isfinite(low) and math.isfinite(high) and low < high, declared.name


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("train --seed -1", "--seed is -1; it must be between 0 and 2,147,483,647."),
        (
            "train --seed 99999999999999999999",
            "--seed is 99999999999999999999; it must be between 0 and 2,147,483,647.",
        ),
        ("train --width 100000", "--width is 100000; it must be between 1 and 16,384."),
        ("train --sids 100000", "--sids is 100000; it must be between 1 and 256."),
        ("train --layers 100000", "--layers is 100000; it must be between 1 and 256."),
        ("train --learning-rate nan", "--learning-rate is nan; it must be between 1e-12 and 1e+09."),
        ("train --weight-decay inf", "--weight-decay is inf; it must be between 0 and 1,000."),
        ("train --dropout nan", "--dropout is nan; it must be between 0 and 0.99."),
        ("train --minutes inf", "--minutes is inf; it must be between 1e-09 and 1,000,000."),
        ("eval --remask 100000", "--remask is 100000; it must be between 0 and 100."),
        ("eval --guidance nan", "--guidance is nan; it must be between 0 and 100."),
        ("eval --tokens 0", "--tokens is 0; it must be between 1 and 10,000,000."),
        ("tune --total-minutes nan", "--total-minutes is nan; it must be between 1e-09 and 1,000,000."),
        ("ablate table1 --seeds 100000", "--seeds is 100000; it must be between 1 and 1,000."),
        ("ablate table1 --jobs 100000", "--jobs is 100000; it must be between 1 and 256."),
        (
            "ablate --dataset toy --nfe 1..99999999",
            "--nfe 1..99999999 is a range of 99,999,999 values; a grid takes 10,000 at most.",
        ),
        ("train --workspace ", "--workspace is empty. Give it a value or leave it out."),
        ("train --track ", "--track is empty. Give it a value or leave it out."),
        ("train --track=", "--track is empty. Give it a value or leave it out."),
        (
            "download beauty --mirror http://[::1",
            "--mirror 'http://[::1' is not a web address; write e.g. https://example.org/folder.",
        ),
        (
            "download beauty --mirror http://a:99999",
            "--mirror 'http://a:99999' is not a web address; write e.g.",
        ),
        (f"train --name {'x' * 300}", "cannot be a name: it has 300 characters, and a name has at most 128."),
        ("eval --split train", "--split 'train' is unknown; choose test, validation."),
        ("embed --encoder ~nobody-of-that-name/x", "--encoder '~nobody-of-that-name/x' cannot be looked up"),
        (f"import toy --interactions {'x' * 300}.csv", "cannot be looked up (File name too long)."),
    ],
    ids=lambda value: value[:40],
)
def test_the_message_of_a_refusal(typed: str, message: str) -> None:
    error = refused(*typed.split(" "))
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_model_beyond_the_memory_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_largest_gpu", lambda: 0)
    monkeypatch.setattr(memory, "_memory", lambda: 2.0**30)
    largest = {"layers": 256, "width": 16_384, "mlp": 131_072, "heads": 8}
    with pytest.raises(
        UserError, match="--layers 256, --width 16384 and --mlp 131072 .* this machine has 1 GiB. Lower them"
    ):
        configure("maskgr", "paper", largest)
    sizes, train = configure("sasrec", "small", {})
    memory.check_memory(sizes, train, items=50_000)
    with pytest.raises(UserError, match="parameters and needs at least"):
        memory.check_memory(sizes, train, items=5_000_000)  # each item has an embedding
    with pytest.raises(UserError, match="on 2,000,000 tokens at a time; .* or --micro-tokens"):
        configure("sasrec", "small", {"micro_tokens": 2_000_000, "batch_size": 100_000})
    monkeypatch.setattr(memory, "_largest_gpu", lambda: 2.0**60)
    configure("maskgr", "paper", largest)


@dataclass(frozen=True)
class Toy:
    rate: float = field(default=0.5, metadata=option("Rate.", 0.25, 1.0))
    count: int | None = field(default=None, metadata=option("Count.", 1, 10_000, flag="--how-many"))
    word: str = field(default="yes", metadata=option("Word.", choices=("yes", "no")))
    really: bool = field(default=False, metadata=option("Really."))
    free: object = None  # not an option

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    "values",
    [{"rate": 0.25}, {"rate": 1}, {"count": 1}, {"count": 10_000}, {"word": "no"}, {"free": object()}],
)
def test_bounds_are_allowed_values(values: dict) -> None:
    Toy(**values)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0.249}, "--rate is 0.249; it must be between 0.25 and 1."),
        ({"rate": math.nan}, "--rate is nan; it must be between 0.25 and 1."),
        ({"rate": math.inf}, "--rate is inf; it must be between 0.25 and 1."),
        ({"rate": True}, "--rate is True; it must be a number."),
        ({"rate": None}, "--rate is None; it must be a number."),
        ({"count": 0}, "--how-many is 0; it must be between 1 and 10,000."),
        ({"count": 10_001}, "--how-many is 10001; it must be between 1 and 10,000."),
        ({"count": 1.0}, "--how-many is 1.0; it must be a whole number."),
        ({"count": 10**100}, f"--how-many is 1{'0' * 58}…; it must be between 1 and 10,000."),
        ({"word": "ja"}, "--word 'ja' is unknown; choose yes, no."),
        ({"word": ["yes"]}, "--word is ['yes']; it must be text."),
        ({"really": 1}, "--really is 1; it must be yes or no."),
    ],
)
def test_wrong_values_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UserError) as raised:
        Toy(**wrong)
    assert str(raised.value) == message


def test_long_values_are_cut() -> None:
    assert quoted("x" * 100) == "'" + "x" * 58 + "…"
    assert quoted(-0.5) == "-0.5"


def test_random_values_crash_no_command() -> None:
    result = run(250, seed=0)
    assert result.faults == []
    assert result.tried == 250 == result.refused + result.accepted
    assert result.accepted
