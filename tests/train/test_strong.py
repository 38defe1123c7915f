"""The rule that gives `strong` and its teachers their steps, and the settings that teachers take."""

from __future__ import annotations

import pytest

from pipelines.train.strong import TEACHERS, Teacher, steps_by_users


@pytest.mark.parametrize(
    ("users", "teacher", "student"),
    [
        (943, {}, {}),  # MovieLens 100K: the presets' 1,800 and 3,600
        (22_363, {}, {}),  # Beauty: 10 · 22,363 / 128 = 1,747, up to 1,800
        (35_598, {"steps": 2800}, {"steps": 5600}),  # Sports: 2,781 and 5,562
    ],
)
def test_steps_grow_with_users(users: int, teacher: dict[str, int], student: dict[str, int]) -> None:
    assert steps_by_users("maskgr", "small", {}, users) == teacher
    assert steps_by_users("maskgr", "strong", {}, users) == student


def test_what_the_user_chooses_stays() -> None:
    for given in ({"steps": 10}, {"minutes": 1.0}):
        assert steps_by_users("maskgr", "strong", given, 10**6) == {}
    assert steps_by_users("maskgr", "small", {"batch_size": 1000}, 10**6) == {"steps": 10_000}
    assert steps_by_users("cooccurrence", "small", {}, 10**6) == {}


def test_teachers_take_the_training_and_the_sizes_of_a_student_and_not_its_kind() -> None:
    given = {
        **{"seed": 3, "steps": 7, "width": 32, "max_items": 9, "cold": 0.1, "negatives": 5},
        **{"item_embeddings": False, "distill": "a", "teacher_share": 0.5, "likelihood": "digit"},
    }
    assert Teacher(seed=1).settings(given) == {
        **{"seed": 4, "steps": 7, "width": 32, "max_items": 9, "cold": 0.1, "negatives": 5}
    }
    assert Teacher("cooccurrence").settings(given) == {"seed": 3, "max_items": 9, "cold": 0.1}


def test_no_two_teachers_are_equal() -> None:
    assert len(set(TEACHERS)) == len(TEACHERS)
