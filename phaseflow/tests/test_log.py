"""The format of log lines, and that nothing is written past it."""

from __future__ import annotations

import ast
import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from phaseflow import log
from phaseflow.errors import PlatformError
from phaseflow.log import logger
from phaseflow.settings import ROOT, from_environment

COMPONENTS = ("services", "pipelines", "phaseflow", "dags", "monitoring")
REPORTS = {"phaseflow/errors.py"}
"""The last line of a failed program is data for the program that started it."""
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR|CRITICAL) test: (.*)$")


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers = list(root.handlers)
    yield
    root.handlers = handlers
    logging.captureWarnings(capture=False)


def test_a_text_line_has_time_level_and_component(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("test")
    logger.info("version %s", 3)
    logging.getLogger("a.library").warning("it is slow")
    logging.getLogger("a.library").info("not of interest")
    lines = [LINE.match(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.groups() if line else None for line in lines] == [("INFO", "version 3"), ("WARNING", "it is slow")]


def test_a_json_line_holds_a_whole_record(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("test", "json")
    logger.warning("two\nlines of %s", "é")
    try:
        raise ValueError("wrong")
    except ValueError:
        logger.exception("it failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(record["level"], record["logger"]) for record in records] == [
        ("WARNING", "phaseflow"),
        ("ERROR", "phaseflow"),
        ("WARNING", "py.warnings"),
    ]
    assert records[0]["message"] == "two\nlines of é"
    assert records[1]["exception"].endswith("ValueError: wrong")
    assert records[0].keys() == {"time", "level", "component", "logger", "message"}
    assert {record["component"] for record in records} == {"test"}


def test_a_second_configuration_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("first")
    log.configure("second", "json")
    logger.info("once")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["component"] == "second"


def test_an_unknown_format_is_refused_with_the_fix() -> None:
    with pytest.raises(PlatformError) as error:
        from_environment({"PHASEFLOW_LOG_FORMAT": "jsn"})
    assert str(error.value) == "PHASEFLOW_LOG_FORMAT is 'jsn'; allowed: text, json. Did you mean \"json\"?"
    assert from_environment({"PHASEFLOW_LOG_FORMAT": ""}).log_format == "text"


def test_a_failed_program_ends_with_its_error_in_each_format(tmp_path: Path) -> None:
    for log_format in log.FORMATS:
        completed = subprocess.run(
            [sys.executable, "-m", "monitoring", "generate", "--out", str(tmp_path / "out")],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_LOG_FORMAT": log_format},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 2, completed.stderr
        first, last = completed.stderr.splitlines()
        assert "fix" in json.loads(last)
        message = json.loads(first)["message"] if log_format == "json" else first.partition(" ERROR monitoring: ")[2]
        assert message.startswith("The secret ")


def writes_to_stderr(tree: ast.AST) -> bool:
    """Whether code prints to stderr or writes to it, instead of logging."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name == "print" and any(word.arg == "file" for word in node.keywords):
            return True
        if name in {"sys.stderr.write", "sys.__stderr__.write", "traceback.print_exc"}:
            return True
    return False


@pytest.mark.parametrize("code", ["print(1, file=sys.stderr)", "def f():\n sys.stderr.write('x')"])
def test_the_check_sees_a_print(code: str) -> None:
    assert writes_to_stderr(ast.parse(code))


def test_components_log_instead_of_printing_to_stderr() -> None:
    paths = [path for part in COMPONENTS for path in (ROOT / part).rglob("*.py") if "tests" not in path.parts]
    assert len(paths) > 100
    offenders = {path.relative_to(ROOT).as_posix() for path in paths if writes_to_stderr(ast.parse(path.read_text()))}
    assert offenders == REPORTS
