"""Errors of components: as they were reported, or the last line of a crash."""

from __future__ import annotations

import json

from cli.local.components import ComponentError


def test_a_reported_error_keeps_problem_and_fix() -> None:
    report = {"error": "DataError", "problem": "Column age is missing", "fix": "Send a number, e.g. 42"}
    error = ComponentError("pipelines.etl", f"reading\nerror: …\n{json.dumps(report)}\n", 2)
    assert (error.problem, error.fix, error.code) == ("Column age is missing", "Send a number, e.g. 42", 2)


def test_a_crash_is_named_by_its_last_line() -> None:
    error = ComponentError("pipelines.etl", "Traceback (most recent call last):\nKeyError: 'age'\n", 1)
    assert str(error) == "pipelines.etl exited with 1: KeyError: 'age'. Read the log above, then run it again."
    assert str(ComponentError("pipelines.etl", "", 137)).startswith(
        "pipelines.etl exited with 137: it printed nothing."
    )
