"""The diagnosis compared with values by hand, with plain Python, and with direct beam searches."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines import artifacts
from pipelines.data.sequences import load_sequences
from pipelines.data.splits import histories
from pipelines.decode.beam import beam_search, random_order
from pipelines.decode.config import ORDERS, Decoding
from pipelines.decode.index import PartialIndex
from pipelines.errors import UserError
from pipelines.evaluate import diagnose
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.diagnose import TeacherForced, diagnose_run, teacher_forced
from pipelines.models.denoiser import Denoiser, IndependentDigits
from pipelines.models.loading import load_run
from pipelines.models.sid_models.config import DiffGRMConfig
from pipelines.train.config import TrainConfig
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.workspace import Run, Workspace
from tests.conftest import ListProgress
from tests.decode.models import TableModel
from tests.decode.paths import paths
from tests.train.conftest import plan, write_sids

Values = dict[tuple, float]  # (measure, order, evaluations, digit, revealed) → value
SHARES = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8])
EIGHT = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])  # codes of eight users, distributed as SHARES
ENTROPY = 1.75 * math.log(2)


def by_key(rows: list[dict]) -> Values:
    """Return the rows of a diagnosis as a dictionary."""
    return {
        tuple(row.get(key) for key in ("measure", "order", "evaluations", "digit", "revealed")): row["value"]
        for row in rows
    }


def diagnosis(denoiser: Denoiser, truth: Tensor, codes: int, seed: int = 0) -> Values:
    """Return the diagnosis of the true SIDs [B, H] of B users."""
    B = len(truth)
    sums = teacher_forced(denoiser, torch.arange(B), truth, codes, seed)
    means = TeacherForced(sums.correct / B, sums.likelihood / B, sums.walks / B)
    return by_key([*diagnose._of_digits(means), *diagnose._of_walks(means)])


def independent(codes: Tensor) -> Tensor:
    """Both digits are drawn from SHARES, whatever is visible."""
    return SHARES.log().expand(*codes.shape, 4)


def copies(codes: Tensor) -> Tensor:
    """Both digits have the same code, drawn from SHARES."""
    other = codes.flip(2)[..., None]
    return torch.where(other == 4, SHARES.log(), torch.where(other == torch.arange(4), 0.0, -torch.inf))


def test_independent_digits_do_not_depend_on_each_other() -> None:
    values = diagnosis(IndependentDigits(independent), torch.stack((EIGHT, EIGHT.flip(0)), dim=1), 4)
    for (name, *_), value in values.items():
        assert value == pytest.approx(
            {"accuracy": 1 / 2, "nll": ENTROPY, "dependence": 0, "joint_loss": 0}[name], abs=1e-6
        )
    assert len(values) == 2 * 4 + 2 + 3 * 2


def test_a_digit_that_copies_another_depends_on_it_by_its_entropy() -> None:
    values = diagnosis(IndependentDigits(copies), torch.stack((EIGHT, EIGHT), dim=1), 4)
    for digit in range(2):
        assert values["dependence", None, None, digit, 1 - digit] == pytest.approx(ENTROPY)
        assert values["accuracy", None, None, digit, 0] == 1 / 2
        assert values["accuracy", None, None, digit, 1] == 1
        assert values["nll", None, None, digit, 0] == pytest.approx(ENTROPY)
        assert values["nll", None, None, digit, 1] == 0
    for order in ORDERS:
        assert values["joint_loss", order, 1, None, None] == pytest.approx(ENTROPY)
        assert values["joint_loss", order, 2, None, None] == 0


@pytest.mark.parametrize(("digits", "codes"), [(1, 3), (3, 4), (4, 2)])
def test_every_value_as_in_plain_python(digits: int, codes: int) -> None:
    B, seed = 5, 3
    model = TableModel(B, digits, codes)
    truth = torch.randint(0, codes, (B, digits), generator=torch.Generator().manual_seed(1))
    values = diagnosis(model, truth, codes, seed)
    assert model.evaluations == 1
    items = truth.tolist()

    def logp(user: int, visible: set[int]) -> np.ndarray:
        partial = torch.tensor([items[user][h] if h in visible else codes for h in range(digits)])
        return model(partial.expand(B, 1, -1))[user, 0].numpy()

    for digit, count in itertools.product(range(digits), range(digits)):
        others = [set(o) for o in itertools.combinations([h for h in range(digits) if h != digit], count)]
        answers = [
            (logp(user, visible)[digit], items[user][digit]) for user in range(B) for visible in others
        ]
        assert values["accuracy", None, None, digit, count] == pytest.approx(
            np.mean([a.argmax() == code for a, code in answers])
        )
        assert values["nll", None, None, digit, count] == pytest.approx(
            -np.mean([a[code] for a, code in answers]), abs=1e-5
        )
    for digit, other in itertools.permutations(range(digits), 2):
        gains = [
            logp(u, {other})[digit, items[u][digit]] - logp(u, set())[digit, items[u][digit]]
            for u in range(B)
        ]
        assert values["dependence", None, None, digit, other] == pytest.approx(np.mean(gains), abs=1e-5)
    orders = random_order(torch.arange(B), digits, seed).tolist()

    def score(user: int, order: str, T: int) -> float:
        def one(partial: tuple[int, ...]) -> np.ndarray:
            return model(torch.tensor(partial).expand(B, 1, -1))[user, 0].numpy()

        schedule = Decoding(nfe=T).unmask_schedule(digits)
        permutation = orders[user] if order == "random" else None
        return paths(one, order, schedule, permutation, digits, codes)[tuple(items[user])]

    for order, T in itertools.product(ORDERS, range(1, digits + 1)):
        lost = np.mean([score(user, order, digits) - score(user, order, T) for user in range(B)])
        assert values["joint_loss", order, T, None, None] == pytest.approx(lost, abs=1e-5)


@pytest.fixture
def run(toy: Workspace, progress: ListProgress) -> Run:
    return train_run(toy, plan(write_sids(toy), layers=2), progress, name="run")


def test_a_run_is_diagnosed_over_all_users(toy: Workspace, run: Run, progress: ListProgress) -> None:
    config = EvalConfig(Decoding(beams=6, seed=2), precision="fp32")
    done = diagnose_run(toy, run, config, progress)
    values = by_key(done.table.to_pylist())
    assert done.folder == run.evaluation("diagnosis-k6-seed2")
    assert set(done.table["users"].to_pylist()) == {200}
    trained = load_run(toy, run, torch.device("cpu"))
    model, sids = trained.model, torch.as_tensor(trained.catalogue.require_sids())
    split = histories(load_sequences(trained.dataset.sequences), "test")
    history, users = torch.as_tensor(split.padded(np.arange(200), 8)).long(), torch.arange(200)
    truth = sids[torch.as_tensor(split.first_target).long()]  # [200, 3]
    none = torch.full((200, 1, 3), 8)  # all digits masked
    with torch.no_grad():
        masked = model.denoiser(history)(none)[:, 0]  # [200, 3, 8]
        second = model.denoiser(history)(torch.where(torch.arange(3) == 1, truth[:, None], none))[:, 0]
        for digit in range(3):
            logp, code = masked[:, digit].gather(1, truth[:, digit, None]).squeeze(1), truth[:, digit]
            assert values["accuracy", None, None, digit, 0] == pytest.approx(
                float((masked[:, digit].argmax(1) == code).double().mean())
            )
            assert values["nll", None, None, digit, 0] == pytest.approx(-float(logp.mean()), abs=1e-4)
            if digit != 1:
                gain = float((second[:, digit].gather(1, code[:, None]).squeeze(1) - logp).mean())
                assert values["dependence", None, None, digit, 1] == pytest.approx(gain, abs=1e-4)
    index = PartialIndex(trained.catalogue.sids, 8)
    for order, T in itertools.product(ORDERS, (1, 2, 3)):
        beams = beam_search(
            model.denoiser(history),
            users,
            index,
            Decoding(unmask=order, nfe=T, beams=6, seed=2, constrained=False),
        )
        rate = values["invalid_rate", order, T, None, None]
        assert rate == pytest.approx(
            float(beams.invalid.sum()) / 1200, abs=2 / 1200
        )  # batches round differently
        assert 0.1 < rate < 1
    assert len(values) == 2 * 9 + 6 + 2 * 9

    again = diagnose_run(toy, run, config, progress)
    assert "run is diagnosed already" in progress.messages[-1]
    assert again.table.equals(done.table)
    small = diagnose_run(toy, run, dataclasses.replace(config, tokens=500), progress, force=True)
    assert "diagnosed already" not in progress.messages[-1]
    np.testing.assert_allclose(small.table["value"].to_numpy(), done.table["value"].to_numpy(), atol=2e-3)
    config = EvalConfig(Decoding(beams=2, approximate=True), precision="fp32")
    once = diagnose_run(toy, run, config, progress)
    assert once.folder == run.evaluation("diagnosis-k2-approximate")
    with torch.no_grad():
        logp = model.denoiser(history, approximate=True)(none)[:, 0, 0].gather(1, truth[:, :1])
    approximate, exact = (v["nll", None, None, 0, 0] for v in (by_key(once.table.to_pylist()), values))
    assert approximate == pytest.approx(-float(logp.mean()), abs=1e-5)
    assert abs(approximate - exact) > 1e-4
    config = EvalConfig(Decoding(beams=2), split="validation", precision="fp32")
    earlier = diagnose_run(toy, run, config, progress)
    assert earlier.folder == run.evaluation("validation-diagnosis-k2")
    assert abs(by_key(earlier.table.to_pylist())["nll", None, None, 0, 0] - exact) > 1e-4
    assert not run.evaluations  # none of these is an evaluation to be listed


def test_a_run_of_diffgrm_is_diagnosed(toy: Workspace, progress: ListProgress) -> None:
    """The accuracy and nll of fully masked items are those of the model's own denoiser."""
    sizes = DiffGRMConfig(layers=1, decoder_layers=1, width=32, heads=2, mlp=64, dropout=0.0, max_items=8)
    schedule = TrainConfig(steps=30, batch_size=32, learning_rate=0.01, validations=1, precision="fp32")
    run = train_run(toy, Plan("toy", write_sids(toy), "diffgrm", "test", sizes, schedule), progress)
    config = EvalConfig(Decoding(beams=4), precision="fp32")
    done = diagnose_run(toy, run, config, progress)
    values = by_key(done.table.to_pylist())
    trained = load_run(toy, run, torch.device("cpu"))
    split = histories(load_sequences(trained.dataset.sequences, trained.catalogue.items), "test")
    history = torch.as_tensor(split.padded(np.arange(200), 8)).long()
    truth = torch.as_tensor(trained.catalogue.require_sids())[split.first_target]  # [200, 3]
    with torch.no_grad():
        logp = trained.model.denoiser(history)(torch.full((200, 1, 3), 8))[:, 0]  # [200, 3, 8]
    for digit in range(3):
        nll = -float(logp[:, digit].gather(1, truth[:, digit, None]).mean())
        assert values["nll", None, None, digit, 0] == pytest.approx(nll, abs=1e-4)
        accuracy = float((logp[:, digit].argmax(1) == truth[:, digit]).double().mean())
        assert values["accuracy", None, None, digit, 0] == pytest.approx(accuracy)
    assert {order for measure, order, *_ in values if measure == "invalid_rate"} == {*ORDERS}
    assert done.folder == run.evaluation("diagnosis-k4")


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"unmask": "random"}, "--unmask"),
        ({"nfe": 2}, "--nfe"),
        ({"unmask_counts": "1,2"}, "--unmask-counts"),
        ({"constrained": False}, "--no-constrained"),
        ({"exclude_seen": True}, "--exclude-seen"),
        ({"guidance": 0.5}, "--guidance"),
    ],
)
def test_settings_without_effect_are_refused(
    workspace: Workspace, progress: ListProgress, changes: dict, option: str
) -> None:
    with pytest.raises(
        UserError, match=f"^{option} has no effect on --diagnose, which takes .* Leave it out"
    ):
        diagnose_run(workspace, workspace.run("none"), EvalConfig(Decoding(**changes)), progress)
    with pytest.raises(UserError, match="^--horizon has no effect on --diagnose, which looks one item ahead"):
        diagnose_run(workspace, workspace.run("none"), EvalConfig(horizon=1), progress)


def test_runs_that_cannot_be_diagnosed_are_refused(toy: Workspace, run: Run, progress: ListProgress) -> None:
    config = artifacts.read_json(run.config)
    artifacts.write_json(run.config, {**config, "train": {**config["train"], "horizon": 2}})
    with pytest.raises(UserError, match="trained with --horizon 2. Name another run"):
        diagnose_run(toy, run, EvalConfig(), progress)
    save_file(
        {**load_file(run.weights), "attention.previous.weight": torch.eye(config["model_settings"]["width"])},
        run.weights,
    )
    model_settings = {**config["model_settings"], "attention": "prefix"}
    artifacts.write_json(
        run.config, {**config, "model_settings": model_settings, "weights": artifacts.digest(run.weights)}
    )
    with pytest.raises(
        UserError,
        match="^--approximate has no effect on this run of --model maskgr, which encodes histories once",
    ):
        diagnose_run(toy, run, EvalConfig(Decoding(approximate=True)), progress)


def test_the_command_prints_tables_and_two_processes_agree_with_one(
    toy: Workspace, run: Run, maskgr: Callable
) -> None:
    options = ["eval", "--diagnose", "--beams", 5, "--precision", "fp32"]
    done = maskgr(*options)
    assert done.returncode == 0, done.stderr
    assert "Run: run (the newest" in done.stderr
    assert "Beam search 9 of 9: random, T = 3" in done.stderr
    assert "Test · run · toy · 3 digits of 8 codes · 5 beams · 200 users" in done.stdout
    lines = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in done.stdout.splitlines()
        if line.startswith("│")
    ]
    assert [line[0] for line in lines] == ["digit 1", "digit 2", "digit 3"] * 3 + [*ORDERS] * 2
    path = run.evaluation("diagnosis-k5") / "diagnosis.parquet"
    table = artifacts.read(path, "diagnosis")
    values = by_key(table.to_pylist())
    assert lines[0][1:] == [f"{100 * values['accuracy', None, None, 0, r]:.2f}" for r in range(3)]
    assert [line[i + 1] for i, line in enumerate(lines[6:9])] == ["—"] * 3
    assert float(lines[7][3]) == pytest.approx(values["dependence", None, None, 1, 2], abs=6e-4)
    assert float(lines[9][1]) == pytest.approx(values["joint_loss", "greedy", 1, None, None], abs=6e-4)
    assert lines[14][1:] == [
        f"{100 * values['invalid_rate', 'random', T, None, None]:.2f}" for T in (1, 2, 3)
    ]

    again = maskgr(*options)
    assert "run is diagnosed already" in again.stderr
    assert again.stdout == done.stdout
    both = maskgr(*options, "--force", "--processes", 2)
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("digit 1") == done.stdout.count("digit 1")
    np.testing.assert_allclose(
        artifacts.read(path, "diagnosis")["value"].to_numpy(), table["value"].to_numpy(), atol=2e-3
    )

    for refused, message in (
        (["--nfe", 2], "--nfe has no effect on --diagnose"),
        (["--horizon", 2], "--horizon has no effect on --diagnose"),
    ):
        failed = maskgr(*options, *refused)
        assert failed.returncode == 2
        assert failed.stderr.splitlines()[-1].startswith(f"error: {message}")
