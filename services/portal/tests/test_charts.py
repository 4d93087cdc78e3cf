from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.portal import charts, text
from services.portal.prometheus import Series


def series(*points: tuple[float, float]) -> Series:
    return Series({}, points)


finite = st.floats(-1e12, 1e12, allow_nan=False)


@given(finite, finite)
def test_a_scale_holds_its_values(one: float, other: float) -> None:
    low, high = charts.scale(min(one, other), max(one, other))
    slack = 1e-6 * max(abs(low), abs(high))
    assert low < high
    assert low - slack <= min(one, other)
    assert max(one, other) <= high + slack


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 0.533, (0, 0.6)), (0, 1, (0, 1)), (0, 9.3, (0, 10)), (0, 0, (0, 1)), (-3, 5, (-5, 5)), (94, 96, (94, 96))],
)
def test_quarters_of_a_scale_are_round(low: float, high: float, expected: tuple[float, float]) -> None:
    assert charts.scale(low, high) == pytest.approx(expected)


def test_a_hole_is_a_gap_and_a_lone_point_a_dot() -> None:
    chart = charts.time_series([("a", series((0, 1), (10, 1), (60, 1)))], 0, 100, step=10, floor=0, ceiling=1)
    assert chart.lines[0].path == "M0 0L100 0M600 0h0.01"


def test_stacked_areas_lie_on_each_other() -> None:
    both = [("a", series((0, 1), (10, 1))), ("b", series((0, 3), (10, 3)))]
    first, second = charts.time_series(both, 0, 10, step=10, floor=0, ceiling=4, stacked=True).lines
    assert first.area == "M0 225L1000 225L1000 300L0 300Z"
    assert second.area == "M0 0L1000 0L1000 225L0 225Z"
    assert (first.last, second.last) == ("1", "3")


def test_values_beyond_the_axis_stay_in_the_plot() -> None:
    chart = charts.time_series([("a", series((0, -5), (10, 9)))], 0, 10, step=10, floor=0, ceiling=4)
    assert chart.lines[0].path == "M0 300L1000 0"


def test_too_many_series_are_counted() -> None:
    many = [(str(n), series((0, n))) for n in range(charts.MOST + 3)]
    chart = charts.time_series(many, 0, 10, step=1)
    assert (len(chart.lines), chart.left_out) == (charts.MOST, 3)


def test_a_threshold_and_a_mark_stand_where_they_should() -> None:
    line = [("a", series((0, 0), (10, 1)))]
    chart = charts.time_series(line, 0, 10, step=10, ceiling=1, thresholds=(0.25,), marks=[(5, "promoted"), (50, "x")])
    assert chart.rules == (225.0,)
    assert chart.marks == (charts.Mark(x=500.0, text="promoted"),)


def test_bars_are_shares_of_the_greatest_and_red_beyond_the_rule() -> None:
    found = charts.bars([("a", 0.5, "0.5"), ("b", 0.1, "0.1")], rule=0.25)
    assert [(bar.share, bar.tone, bar.rule) for bar in found] == [(1.0, "bad", 0.5), (0.2, "ok", 0.5)]
    assert charts.bars([("a", 0.0, "0")])[0].share == 0


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.0221, "s", "22.1 ms"),
        (8.8, "ms", "8.8 ms"),
        (90, "s", "1.5 min"),
        (0, "s", "0 s"),
        (0.725, "percentunit", "72.5 %"),
        (37.51, "reqps", "37.5 req/s"),
        (1536, "bytes", "1.5 KiB"),
        (1_234, "", "1\u202f234"),
        (45_678, "short", "45.7 k"),
        (4_200_000, "none", "4.2 M"),
        (999_999, "", "1 M"),
        (-12.5, "", "-12.5"),
        (3, "furlongs", "3 furlongs"),
        (1, "bool_yes_no", "yes"),
    ],
)
def test_figures_are_read_by_people(value: float, unit: str, said: str) -> None:
    assert text.figure(value, unit) == said


def test_how_long_ago() -> None:
    assert text.ago(100, 100.5) == "just now"
    assert text.ago(100, 112) == "12 s ago"
    assert text.ago(0, 5400) == "1.5 h ago"
    assert text.ago(160, 100) == "in 1 min"
