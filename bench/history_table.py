"""`python -m bench.history_table`: render bench/history.json as the table of bench/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "history.json"
PAGE: Final = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- history: made by bench/history.py -->", "<!-- end of history -->"
BUDGETS: Final = {"time_ratio": 1.2, "memory_ratio": 1.2, "compaction seconds": 5.0, "compaction mib": 300.0}


def table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    rows = [
        (f"ETL, {figures['hours']:,} hours of history ({figures['rows']:,} rows)", figures["history"]),
        ("ETL, one hour of history", figures["one_hour"]),
        ("ETL that reads all of that history", figures["whole"]),
        ("compacting an hour of 180,000 rows", figures["compaction"]),
    ]
    lines = ["| what | seconds | peak MiB |", "| --- | --- | --- |"]
    lines += [f"| {name} | {cost['seconds']:g} | {cost['mib']:.0f} |" for name, cost in rows]
    ratio = (
        f"history against one hour: {figures['time_ratio']:g} of the time, {figures['memory_ratio']:g} of the memory"
    )
    compacted = f"{figures['gigabytes']:g} GB of compacted files"
    return "\n".join([*lines, "", f"{ratio}; {compacted}; medians of {figures['rounds']}, {figures['cores']} cores."])


def with_table(page: str, figures: dict[str, Any]) -> str:
    """The page with the table between its two markers."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table(figures)}\n\n{END}{rest.partition(END)[2]}"


def write_table() -> None:
    """Write the table to bench/README.md."""
    PAGE.write_text(with_table(PAGE.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    write_table()
