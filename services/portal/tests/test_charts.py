from __future__ import annotations

import json

import pytest

from services.portal import charts, text
from services.portal.prometheus import Series


def series(*points: tuple[float, float]) -> Series:
    return Series({}, points)


def test_a_plot_has_a_value_or_none_per_time() -> None:
    plot = charts.plot([("a", series((100, 1), (110, 2), (140, 3)))], 100, 140, step=10, unit="s", floor=0)
    assert plot.lines[0].values == (1, 2, None, None, 3)
    assert (plot.lines[0].last, plot.lines[0].low, plot.lines[0].high) == ("3 s", "1 s", "3 s")
    data = json.loads(plot.data)
    assert (data["start"], data["step"], data["count"], data["floor"]) == (100, 10, 5, 0)
    assert data["lines"] == [{"name": "a", "values": [1, 2, None, None, 3]}]
    assert data["scale"][0] == [86400, 86400, " d", 2]


def test_points_outside_the_span_are_left_out() -> None:
    assert charts.plot([("a", series((-20, 1), (10, 2), (90, 3)))], 0, 20, step=10).lines[0].values == (None, 2, None)


def test_too_many_series_are_counted() -> None:
    many = [(str(n), series((0, n))) for n in range(charts.MAX_SERIES + 3)]
    plot = charts.plot(many, 0, 10, step=1)
    assert (len(plot.lines), plot.omitted) == (charts.MAX_SERIES, 3)


def test_a_mark_outside_the_span_is_left_out() -> None:
    plot = charts.plot([("a", series((0, 0)))], 0, 10, step=10, thresholds=(0.25,), marks=[(5, "promoted"), (50, "x")])
    assert plot.thresholds == (0.25,)
    assert plot.marks == (charts.Mark(time=5, text="promoted"),)


def test_a_hole_in_a_spark_is_a_gap_and_a_lone_point_a_dot() -> None:
    spark = charts.spark(series((0, 1), (10, 1), (60, 1)), 0, 100, step=10)
    assert spark.path == "M0 0L100 0M600 0h0.01"
    assert spark.area.startswith("M0 300L0 0L100 0L100 300Z")


def test_a_spark_shows_its_threshold_and_nothing_below_zero() -> None:
    spark = charts.spark(series((0, -5), (10, 1)), 0, 10, step=10, thresholds=(2.0,))
    assert spark.path == "M0 300L1000 150"
    assert spark.rules == (0.0,)
    assert charts.spark(series((0, 0), (10, 0)), 0, 10, step=10).path == "M0 300L1000 300"


def test_bars_are_shares_of_the_greatest_and_red_beyond_the_rule() -> None:
    bars = charts.bars([("a", 0.5, "0.5"), ("b", 0.1, "0.1")], rule=0.25)
    assert [(bar.share, bar.tone, bar.rule) for bar in bars] == [(1.0, "bad", 0.5), (0.2, "ok", 0.5)]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
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
        (0, "percentunit", "0 %"),
        (150e-6, "s", "150 µs"),
        (0.0000228, "", "0.0000228"),
        (640, "s", "11 min"),
        (123_456, "reqps", "123 k req/s"),
    ],
)
def test_values_are_formatted_for_people(value: float, unit: str, expected: str) -> None:
    assert text.figure(value, unit) == expected


def test_how_long_ago() -> None:
    assert text.ago(100, 100.5) == "just now"
    assert text.ago(100, 112) == "12 s ago"
    assert text.ago(0, 5400) == "1.5 h ago"
    assert text.ago(160, 100) == "in 1 min"
