"""Output and exit status of `phaseflow clean` and `phaseflow forget`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.retention import show_clean, show_forget, size
from phaseflow.settings import ROOT


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a home without a running platform."""
    environment = os.environ | {
        "PHASEFLOW_HOME": str(home),
        "PHASEFLOW_MLFLOW_URL": "http://127.0.0.1:9",
        "PHASEFLOW_PIPELINES_URL": "http://127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "PYTHONPATH": str(ROOT),
    }
    argv = [sys.executable, "-m", "cli", *arguments]
    return subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True)


def test_the_store_is_cleaned_if_other_components_are_unreachable(tmp_path: Path) -> None:
    old = tmp_path / "store" / "predictions" / "titanic" / "date=2020-01-01" / "hour=00" / "x.parquet"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"row")
    dry = command(tmp_path, "clean", "titanic", "--dry-run", "--json")
    assert dry.returncode == 1  # some components could not be reached
    (result,) = json.loads(dry.stdout)
    assert result["lines"] == [
        {
            "what": "predictions",
            "remove": True,
            "count": 1,
            "bytes": 3,
            "why": "older than 90 days",
            "names": ["2020-01-01T00"],
        }
    ]
    assert set(result["problems"]) == {"MLflow", "The pipeline engine"}
    assert old.exists()
    completed = command(tmp_path, "clean", "titanic")
    assert "removed" in completed.stdout
    assert "Start it by `phaseflow up`" in completed.stderr
    assert not old.exists()


def test_an_unknown_id_ends_with_2_and_the_fix(tmp_path: Path) -> None:
    completed = command(tmp_path, "forget", "titanic", "-x")  # "-x" is parsed as an option
    assert completed.returncode == 2
    completed = command(tmp_path, "forget", "titanic", "--", "-x")
    assert completed.returncode == 2
    assert "No log and no snapshot of titanic holds the id '-x'." in completed.stderr
    assert "fix: Take the id from the service's answer" in completed.stderr


def test_what_still_contains_the_row_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    show_forget(
        {
            "rows": 2,
            "log": 2,
            "snapshots": {"a1": "b2"},
            "reports": ["20260101T000000Z"],
            "versions": [{"version": "3", "aliases": ["champion"], "snapshot": "b2", "erased_from": "a1"}],
            "unknown": ["c3"],
            "unreached": ["backups: each holds what was there when it was made"],
        },
        as_json=False,
    )
    printed = capsys.readouterr().out
    for text in (
        "2 rows are erased from 2 files of the log",
        "the snapshot a1 is now b2, without the row",
        "the report 20260101T000000Z contained the row, and is removed",
        "the weights of version 3 (champion), which was trained on it",
        "the snapshot c3 has no IDs",
        "backups: each holds what was there when it was made",
    ):
        assert text in printed


def test_a_dry_run_prints_what_would_be_removed(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"what": "staging", "remove": True, "count": 1234, "bytes": 5 << 20, "why": "old", "names": ["r1"]}
    show_clean([{"project": "toy", "dry_run": True, "lines": [line], "problems": {}}], as_json=False)
    printed = capsys.readouterr().out
    assert "would be removed" in printed
    assert "1,234" in printed
    assert "5.0 MiB" in printed


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes_have_readable_units(count: int, text: str) -> None:
    assert size(count) == text
