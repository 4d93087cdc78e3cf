"""Errors cross from one process to another as they are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaseflow import errors, log

KINDS = [errors.PhaseflowError, errors.ContractError, errors.DataError, errors.PlatformError, errors.PermanentError]


@pytest.mark.parametrize("kind", KINDS)
@given(problem=st.text(min_size=1), fix=st.text(min_size=1))
def test_an_error_is_the_same_on_the_other_side(kind: type[errors.PhaseflowError], problem: str, fix: str) -> None:
    error = kind(problem, fix=fix)
    content = {"error": kind.__name__, "problem": problem, "fix": fix}
    received = errors.from_output(f"a log line\n{json.dumps(content)}\n")
    assert type(received) is kind
    assert (received.problem, received.fix, str(received)) == (problem, fix, str(error))


def test_a_report_is_a_line_for_people_and_a_line_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("test")
    error = errors.DataError("Column age is missing", fix="Send a number, e.g. 42")
    assert errors.report(error) == errors.PERMANENT
    text = capsys.readouterr().err
    assert text.splitlines()[0].endswith(" ERROR test: Column age is missing. Send a number, e.g. 42.")
    received = errors.from_output(text)
    assert received is not None
    assert (received.problem, received.fix) == (error.problem, error.fix)
    assert errors.report(errors.PlatformError("Away", fix="Retry")) == errors.TRANSIENT


@pytest.mark.parametrize(
    "output",
    ["", "\n", "KeyError: 'age'", '["error"]', '{"error": "DataError"}', "3", '{"error": {}, "problem": "x"}', "\x00"],
)
def test_other_output_is_no_report(output: str) -> None:
    assert errors.from_output(output) is None


@given(content=st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_json_is_read(content: Any) -> None:
    errors.from_output(json.dumps(content))


def test_the_docstring_draws_the_tree_of_exceptions() -> None:
    levels: list[str] = []
    drawn: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^    ((?:[ │]   )*)(?:[├└]── )?(\w+Error)\b", line):
            depth = len(match[1]) // 4 + ("── " in line)
            levels[depth:] = [match[2]]
            drawn[match[2]] = levels[depth - 1] if depth else "Exception"
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in classes}
