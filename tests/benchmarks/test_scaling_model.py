"""The scaling model: its formulas by hand, and the item tables of the real models."""

from __future__ import annotations

import pytest

from benchmarks.scaling_model import Step, table_widths

STEP = Step(dense_bytes=1_000, table_widths=(4,), items=8, negatives=2, flops=0.0, cpu_seconds=0.0)


def test_the_formulas_by_hand() -> None:
    assert STEP.dense_seconds(catalogue=100, processes=4, bytes_per_second=10) == pytest.approx(
        2 * 3 / 4 * (1_000 + 100 * 4 * 4) / 10
    )
    rows = 100 * (1 - 0.99**4)  # two items of eight and two negatives, drawn from a hundred
    assert STEP.touched_rows(100, 4) == pytest.approx(rows)
    assert STEP.sparse_seconds(100, 4, 10) == pytest.approx((2 * 3 / 4 * 1_000 + 3 * rows * (4 * 4 + 8)) / 10)
    turning_point = STEP.turning_point(600.0, 4, 10)
    assert STEP.dense_seconds(turning_point, 4, 10) == pytest.approx(600.0)


def test_the_presets_have_these_item_tables() -> None:
    assert table_widths("small") == (64,)
    assert table_widths("paper") == ()
