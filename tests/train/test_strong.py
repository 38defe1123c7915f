"""The rule that gives `strong` and its teachers their steps, and the settings that teachers take."""

from __future__ import annotations

import pytest

from pipelines.train.strong import TEACHERS, Teacher, chosen_by_data

LONG = {"max_items": 200, "batch_size": 32, "steps": 400}


@pytest.mark.parametrize(
    ("users", "interactions", "teacher", "student"),
    [
        (22_363, 198_502, {}, {}),  # Beauty: 10 · 22,363 / 128 = 1,747, the preset's 1,800
        (35_598, 296_337, {"steps": 2800}, {"steps": 5600}),  # Sports: 2,781
        # MovieLens 100K: 105 items a user; 10 · 943 windows of 200 are 295 steps of 32, fewer than 400
        (943, 99_287, LONG, LONG | {"steps": 800}),
        # MovieLens 1M: 10 · 6,040 windows are 472 steps of 128
        (6_040, 1_000_209, {"max_items": 200, "steps": 500}, {"max_items": 200, "steps": 1000}),
        (60, 300, {"batch_size": 32, "steps": 400}, {"batch_size": 32, "steps": 800}),
    ],
)
def test_batches_and_steps_follow_the_data(
    users: int, interactions: int, teacher: dict[str, int], student: dict[str, int]
) -> None:
    assert chosen_by_data("maskgr", "small", {}, users, interactions) == teacher
    assert chosen_by_data("maskgr", "strong", {}, users, interactions) == student


def test_what_the_user_chooses_stays() -> None:
    for given in ({"steps": 10}, {"minutes": 1.0}):
        assert chosen_by_data("maskgr", "strong", given, 10**6, 10**7) == {}
        assert chosen_by_data("maskgr", "strong", given, 60, 300) == {"batch_size": 32}
    assert chosen_by_data("maskgr", "small", {"batch_size": 1000}, 10**6, 10**7) == {"steps": 10_000}
    assert chosen_by_data("maskgr", "small", {"max_items": 10}, 943, 99_287) == {"steps": 800}
    assert chosen_by_data("cooccurrence", "small", {}, 10**6, 10**7) == {}


def test_teachers_take_the_training_and_the_sizes_of_a_student_and_not_its_kind() -> None:
    given = {
        **{"seed": 3, "steps": 7, "width": 32, "max_items": 9, "cold": 0.1, "negatives": 5},
        **{"item_embeddings": False, "distill": "a", "teacher_share": 0.5, "likelihood": "digit"},
    }
    assert Teacher(seed=1).settings(given) == {
        **{"seed": 4, "steps": 7, "width": 32, "max_items": 9, "cold": 0.1, "negatives": 5}
    }
    assert Teacher(alone=True).settings({"width": 32}) == {"item_embeddings": False, "width": 32, "seed": 0}
    assert Teacher(alone=True).settings({})["width"] > 64
    assert Teacher("cooccurrence").settings(given) == {"seed": 3, "max_items": 9, "cold": 0.1}


def test_no_two_teachers_are_equal() -> None:
    assert len(set(TEACHERS)) == len(TEACHERS)
