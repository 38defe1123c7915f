"""Co-occurrence: counts and scores against plain Python, weights over fewer items, runs that are counted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipelines import artifacts
from pipelines.data.catalogue import Catalogue
from pipelines.data.groups import Groups
from pipelines.data.sequences import Sequences
from pipelines.decode.config import Decoding
from pipelines.errors import UserError
from pipelines.evaluate.config import EvalConfig
from pipelines.evaluate.run import evaluate_run
from pipelines.models import loading
from pipelines.models.distribution import distribution_after
from pipelines.models.item_models import cooccurrence
from pipelines.models.item_models.cooccurrence import Cooccurrence
from pipelines.models.registry import model_config
from pipelines.processes import Processes
from pipelines.train.configure import configure
from pipelines.train.derived import continued_plan
from pipelines.train.existing import find_unfinished
from pipelines.train.plan import Plan
from pipelines.train.run import train_run
from pipelines.train.validation import Validator
from pipelines.workspace import Workspace
from tests.conftest import ListProgress
from tests.train.conftest import append_interactions, grow_items
from tests.train.test_leakage import data, plan_of

__all__ = ["data"]  # a fixture
N = 12
SETTINGS = {"reach": 3, "backward": 0.25, "recency": 0.5, "popularity": 0.2, "max_items": 4}


def random_rows(seed: int, count: int = 30, items: int = N - 1) -> list[list[int]]:
    """Sequences of one to eight items, repeats among them; the last item of the catalogue is in none."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, items, rng.integers(1, 9)).tolist() for _ in range(count)]


def groups(rows: list[list[int]], sizes: list[int] | None = None) -> Groups:
    offsets = np.cumsum([0, *map(len, rows)])
    items = np.array([item for row in rows for item in row], np.int32)
    return Groups.of(Sequences(items, offsets), np.array(sizes or [len(rows)]))


def build(items: int = N, **settings: object) -> Cooccurrence:
    return loading.build(
        model_config("cooccurrence", {**SETTINGS, **settings}), Catalogue.of(np.zeros((items, 1)), 1)
    ).eval()


def counts_by_hand(rows: list[list[int]]) -> dict[int, dict[int, float]]:
    """Item → item near it → count."""
    near: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for i, first in enumerate(row):
            for j, second in enumerate(row):
                if 0 < j - i <= SETTINGS["reach"]:
                    near[first][second] += 1 / (j - i)
                    near[second][first] += SETTINGS["backward"] / (j - i)
    return near


def probabilities_by_hand(rows: list[list[int]], history: list[int]) -> list[float]:
    near_each = counts_by_hand(rows)
    total = sum(map(len, rows))
    counts = [max(0.5, sum(row.count(item) for row in rows)) / total for item in range(N)]
    near = [0.0] * N
    for place, item in enumerate(history):
        for other, count in near_each.get(item, {}).items():
            near[other] += SETTINGS["recency"] ** (len(history) - 1 - place) * count
    if not sum(near):
        return [count / sum(counts) for count in counts]
    mixed = [0.8 * weight / sum(near) + 0.2 * count for weight, count in zip(near, counts, strict=True)]
    return [value / sum(mixed) for value in mixed]


@pytest.mark.parametrize("pairs", [1, 50, 1 << 22])
@pytest.mark.parametrize("seed", range(3))
def test_counts_and_probabilities_are_those_of_the_definition(
    seed: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of any number of pairs."""
    monkeypatch.setattr(cooccurrence, "PAIRS", pairs)
    rows, model = random_rows(seed), build()
    model.count(groups(rows, [7, 0, 3, 20]), Processes())
    expected = counts_by_hand(rows)
    for item in range(N):
        places = slice(*model.offsets[item : item + 2].tolist())
        found = dict(zip(model.partners[places].tolist(), model.counts[places].tolist(), strict=True))
        assert found == pytest.approx(expected.get(item, {}))
    histories = [[3, 1, 1, 7], [0], [N - 1, 5], [N - 1], []]
    padded = torch.tensor([[-1] * (4 - len(row)) + row for row in histories])
    with torch.inference_mode():
        logp = distribution_after(model, padded, torch.arange(5)).log_probs()
    torch.testing.assert_close(logp.exp().sum(1), torch.ones(5))
    for row, history in zip(logp.exp().tolist(), histories, strict=True):
        assert row == pytest.approx(probabilities_by_hand(rows, history), rel=1e-4)
        assert min(row) > 0


def test_many_histories_have_the_scores_that_each_has_alone() -> None:
    """Many add up whole rows of items, one adds up pairs."""
    model = build()
    model.count(groups(random_rows(0)), Processes())
    drawn = torch.randint(-1, N, (200, 4), generator=torch.Generator().manual_seed(0))
    histories = drawn.sort(1).values  # padding on the left
    lengths = model.offsets.diff()[histories.clamp(min=0)].masked_fill(histories < 0, 0)
    assert lengths.sum(1).max() <= N**2 < lengths.sum()
    users = torch.zeros(200, dtype=torch.int64)
    alone = torch.cat([model.scores(history[None], users[:1]) for history in histories])
    torch.testing.assert_close(model.scores(histories, users), alone)


def test_pairs_that_are_not_counted_leave_no_entry() -> None:
    model = build(backward=0.0)
    model.count(groups([[0, 1], [0, 2]]), Processes())
    assert model.offsets.tolist() == [0, 2] + [2] * (N - 1)
    assert model.partners.tolist() == [1, 2] and model.counts.tolist() == [1.0, 1.0]


def test_processes_together_count_what_one_counts() -> None:
    """To the last bit, though each reads groups of its own."""
    sequences, alone = groups(random_rows(0), [7, 3, 15, 5]), build()
    alone.count(sequences, Processes())
    models, meet = [build() for _ in range(3)], threading.Barrier(3)
    given: list[np.ndarray | None] = [None] * 3

    def total(rank: int) -> Callable[[np.ndarray], np.ndarray]:
        def of(array: np.ndarray) -> np.ndarray:
            given[rank] = array
            meet.wait()
            result = np.sum(given, axis=0)
            meet.wait()
            return result

        return of

    threads = [
        threading.Thread(target=model.count, args=(sequences, Processes(rank, 3, total(rank))))
        for rank, model in enumerate(models)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        for name, tensor in alone.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name


def test_weights_over_some_items_are_placed_among_all(tmp_path: Path) -> None:
    """New items have no row, and count as half an interaction."""
    known = np.array([0, 2, 3, 5, 6, 9])
    small, large = build(6), build()
    small.count(groups(random_rows(1, items=6)), Processes())
    large.count(groups(random_rows(2)), Processes())
    loading.save(small, tmp_path / "model.safetensors")
    loading.load_grown(large, tmp_path / "model.safetensors", known)
    history = torch.tensor([[2, 0, 4], [-1, -1, 1]])
    with torch.inference_mode():
        before = small.scores(history, torch.arange(2))
        after = large.scores(torch.where(history < 0, -1, torch.as_tensor(known)[history]), torch.arange(2))
    torch.testing.assert_close(after[:, known], before)
    new = np.setdiff1d(np.arange(N), known)
    assert (after[:, new] < before.min()).all() and after.isfinite().all()


def test_weights_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    model, path = build(), tmp_path / "model.safetensors"
    model.count(groups(random_rows(0)), Processes())
    weights = model.state_dict()
    for name, changed in (
        ("partners", weights["partners"] + N),
        ("counts", weights["counts"][:-1]),
        ("offsets", weights["offsets"][:-1]),
    ):
        with pytest.raises(UserError, match="fit the run's config.json: "):
            loading.place_weights(build(), {**weights, name: changed}, np.arange(N))
    loading.save(build(8), path)
    with pytest.raises(UserError, match="does not fit the run's config.json"):
        loading.load(build(), path)


def test_vectors_keep_the_angles_between_rows() -> None:
    """Exactly, where there are no more items than axes."""
    model = build()
    model.count(groups(random_rows(0)), Processes())
    rows = torch.zeros(N, N)
    rows[torch.repeat_interleave(model.offsets.diff()), model.partners.long()] = model.counts
    rows = torch.nn.functional.normalize(rows)
    vectors = model.history_vectors()
    torch.testing.assert_close(vectors @ vectors.T, rows @ rows.T, atol=1e-5, rtol=1e-4)
    assert build().history_vectors().tolist() == [[0.0]] * N


def test_options_of_blocks_and_steps_are_refused() -> None:
    for option, value in (("layers", 2), ("learning_rate", 0.1), ("minutes", 1.0), ("steps", 3)):
        flag = f"--{option.replace('_', '-')}"
        with pytest.raises(
            UserError, match=f"{flag} has no effect on --model cooccurrence, which is counted"
        ):
            configure("cooccurrence", "small", {option: value})
        with pytest.raises(UserError, match=f"{flag} has no effect"):
            configure("cooccurrence", "small", {}, {option: value})
    with pytest.raises(UserError, match="--width, --dropout have no effect"):
        configure("cooccurrence", "small", {"width": 8, "dropout": 0.1})
    configure("cooccurrence", "small", {"cold": 0.1, "drop_items": 0.1, "seed": 3, "validation_users": 10})


def counted(workspace: Workspace, progress: ListProgress, name: str, **settings: object) -> bytes:
    model_settings, schedule = configure("cooccurrence", "smoke", settings)
    run = train_run(
        workspace, Plan("toy", None, "cooccurrence", "smoke", model_settings, schedule), progress, name=name
    )
    return run.weights.read_bytes()


def test_sequences_in_files_are_counted_alike(data: Workspace, progress: ListProgress) -> None:
    whole = counted(data, progress, "all", shuffle="all")
    assert counted(data, progress, "groups", shuffle="groups") == whole
    assert any("The sequences stay in their files" in message for message in progress.messages)
    assert any(message.startswith("Counted in ") for message in progress.messages)
    config = artifacts.read_json(data.run("all").config)
    assert (config["state"], config["steps"], config["best"]["step"]) == ("finished", 1, 1)
    assert config["model_settings"].keys() == {"max_items", "reach", "backward", "recency", "popularity"}
    assert config["train"].keys() >= {"steps", "seed"} and "learning_rate" not in config["train"]


def test_a_run_with_other_settings_is_evaluated_anew(data: Workspace, progress: ListProgress) -> None:
    """Also where its tensors are those of the run before: what was made with that run is out of date."""
    config = EvalConfig(Decoding(beams=5), precision="fp32")
    tensors, metrics = [], []
    for recency in (1.0, 0.01):
        model_settings, schedule = configure("cooccurrence", "smoke", {"recency": recency})
        plan = Plan("toy", None, "cooccurrence", "smoke", model_settings, schedule)
        run = train_run(data, plan, progress, name="run", existing="replace")
        tensors.append(load_file(run.weights))
        metrics.append(evaluate_run(data, run, config, progress).metrics)
    assert all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())
    assert not metrics[0].equals(metrics[1])


@pytest.mark.parametrize(("owner", "method"), [(Cooccurrence, "count"), (Validator, "recall")])
def test_an_interrupted_run_is_resumed(
    data: Workspace, progress: ListProgress, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    """In the pass over the sequences, or in the validation after it."""
    plan, original = plan_of(data, "cooccurrence", {}, {"steps": 1}), getattr(owner, method)
    whole = train_run(data, plan, progress, name="whole")

    def interrupted(*arguments: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(data, plan, progress, name="run")
    unfinished, found = find_unfinished(data, None)
    assert (unfinished.name, found.to_dict()) == ("run", plan.to_dict())
    resumed = train_run(data, found, progress, name="run", existing="resume")
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()
    for key in ("state", "steps", "best"):
        assert artifacts.read_json(resumed.config)[key] == artifacts.read_json(whole.config)[key]


def test_a_continued_run_is_counted_anew(data: Workspace, progress: ListProgress) -> None:
    """It equals a new run on the data set that has grown."""
    first = train_run(data, plan_of(data, "cooccurrence", {}, {"steps": 1}), progress, name="run")
    grow_items(data, None)
    append_interactions(data, [[60, 61, 62, 63], [1, 2, 3, 64]], [64, 60])
    second = train_run(data, continued_plan(first, {}), progress, name="second")
    assert "All interactions are counted anew, those of run too; 5 items are new." in progress.messages
    anew = train_run(data, plan_of(data, "cooccurrence", {}, {"steps": 1}), progress, name="anew")
    assert second.weights.read_bytes() == anew.weights.read_bytes() != first.weights.read_bytes()
    with pytest.raises(UserError, match="--learning-rate has no effect on --model cooccurrence"):
        continued_plan(first, {"learning_rate": 0.1})


def test_new_items_come_last(data: Workspace, progress: ListProgress) -> None:
    run = train_run(data, plan_of(data, "cooccurrence", {}, {"steps": 1}), progress, name="run")
    grow_items(data, None)
    found = evaluate_run(data, run, EvalConfig(Decoding(beams=65)), progress)
    listed = artifacts.read(found.folder / "recommendations.parquet", "recommendations")["items"].to_pylist()
    assert all(sorted(items[60:]) == [60, 61, 62, 63, 64] for items in listed)


def test_the_commands_take_it(data: Workspace) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "maskgr_cli", *arguments, "--workspace", str(data.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "Counting co on 1 × cpu: 60 users." in run("train", "--model", "cooccurrence", "--name", "co")
    assert set(load_file(data.run("co").weights)) == {"interactions", "offsets", "partners", "counts"}
    run("train", "--model", "cooccurrence", "--name", "by-two", "--processes", "2", "--shuffle", "groups")
    assert data.run("by-two").weights.read_bytes() == data.run("co").weights.read_bytes()
    run("eval", "co")
    metrics = artifacts.read(next(data.run("co").path.glob("eval/*/metrics.parquet")), "metrics").to_pylist()
    assert {row["users"] for row in metrics} == {60}
