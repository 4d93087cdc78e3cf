"""Tests of the table of history costs."""

from __future__ import annotations

import json
from typing import Any, Final

from bench.history_table import BEGIN, END, PAGE, RESULTS, table, with_table

FIGURES: Final[dict[str, Any]] = {
    "hours": 720,
    "rows": 129_600_000,
    "gigabytes": 6.9,
    "rounds": 5,
    "cores": 2,
    "one_hour": {"seconds": 3.5, "mib": 200.0},
    "history": {"seconds": 3.6, "mib": 210.4},
    "whole": {"seconds": 900.0, "mib": 340.0},
    "compaction": {"seconds": 3.25, "mib": 250.0},
    "time_ratio": 1.03,
    "memory_ratio": 1.05,
}


def test_the_table_says_the_figures_and_can_be_written_again() -> None:
    assert "| ETL, 720 hours of history (129,600,000 rows) | 3.6 | 210 |" in table(FIGURES)
    page = with_table(f"before\n{BEGIN}\nold\n{END}\nafter\n", FIGURES)
    assert "old" not in page
    assert with_table(page, FIGURES) == page
    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")


def test_the_page_has_both_markers_and_the_current_table() -> None:
    page = PAGE.read_text()
    assert page.count(BEGIN) == page.count(END) == 1
    assert not RESULTS.exists() or table(json.loads(RESULTS.read_text())) in page
