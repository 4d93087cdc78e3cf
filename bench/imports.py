"""Measure the import time of `phaseflow` and of every project declaration against a bare interpreter, in milliseconds.

Usage: python bench/imports.py [rounds]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

CASES = {
    "floor: a bare interpreter": "pass",
    "import phaseflow": "import phaseflow",
    "every project's declaration": "from phaseflow import discovery; discovery.all_projects()",
}


def milliseconds(code: str) -> float:
    """Wall time of one interpreter that runs `code`."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - begin) * 1000


def main(rounds: int) -> None:
    """Interleave the cases, so that a slow moment of the machine affects all of them, and print the medians."""
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, code in CASES.items():
            times[name].append(milliseconds(code))
    medians = {name: statistics.median(values) for name, values in times.items()}
    floor = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:32} {median:7.1f} ms   {median - floor:7.1f} ms above the floor   {median / floor:5.2f} x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
