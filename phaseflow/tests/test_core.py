"""The store, settings, discovery, events and reference."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phaseflow
from phaseflow import ContractError, PhaseflowError, PlatformError, discovery, events, reference, settings
from phaseflow.reference import MISSING, OTHER, Bins, psi
from phaseflow.store import Store


def test_the_public_names_are_unchanged() -> None:
    assert phaseflow.__all__ == [
        "Candidate",
        "Column",
        "ContractError",
        "DataError",
        "Drift",
        "File",
        "Gate",
        "Keep",
        "Metric",
        "Objectives",
        "PermanentError",
        "PhaseflowError",
        "PlatformError",
        "Project",
        "Resources",
        "Schema",
        "Slice",
        "Source",
    ]


def test_a_write_to_a_full_disk_leaves_the_old_object(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a/b", b"first")
    code = (
        "import sys; from phaseflow.store import Store; from phaseflow import PlatformError\n"
        "try: Store(sys.argv[1]).write('a/b', b'x' * 200_000)\n"
        "except PlatformError as error: print(error)\n"
    )

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a full disk causes an error, not a signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    completed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
        cwd=settings.ROOT,
    )
    assert "can't be written: File too large. Free disk space or correct the folder's permissions." in completed.stdout
    assert store.read("a/b") == b"first"
    assert list(store.keys("a")) == ["a/b"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_parent_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(PlatformError) as error:
        Store(str(tmp_path)).write("a/b", b"")
    assert str(error.value) == (
        f"{tmp_path}/a/b can't be written: File exists. Free disk space or correct the folder's permissions."
    )


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../x"])
def test_no_key_leaves_the_store(tmp_path: Path, key: str) -> None:
    with pytest.raises(PlatformError, match="leaves the store"):
        Store(str(tmp_path)).path(key)


def test_events_are_cloud_events_in_order(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for number in range(3):
        events.record(store, "toy", "alert", {"number": number}, source="test")
    recorded = events.read(store, "toy")
    assert [event["data"]["number"] for event in recorded] == [0, 1, 2]
    assert {"specversion", "id", "type", "source", "subject", "time"} <= recorded[0].keys()
    with pytest.raises(ValueError, match="event type 'bang'"):
        events.record(store, "toy", "bang", {}, source="test")


def test_the_error_of_a_wrong_setting_contains_the_variable() -> None:
    with pytest.raises(PlatformError) as error:
        settings.from_environment({"PHASEFLOW_PORT_OFFSET": "ten"})
    assert str(error.value) == (
        "PHASEFLOW_PORT_OFFSET is 'ten'; allowed: a whole number. Correct or unset PHASEFLOW_PORT_OFFSET."
    )


def test_the_port_offset_applies_to_every_address() -> None:
    configured = settings.from_environment({"PHASEFLOW_PORT_OFFSET": "10000"})
    assert configured.serving_url == "http://127.0.0.1:13000"
    assert configured.port("airflow") == 18080


def test_the_error_of_a_missing_secret_contains_the_fix(tmp_path: Path) -> None:
    configured = settings.from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    with pytest.raises(PlatformError, match="Make it with `phaseflow up`"):
        configured.secret("hook_token")


def test_an_unknown_project_gets_a_suggestion() -> None:
    with pytest.raises(PhaseflowError, match='Did you mean "titanic"\\?'):
        discovery.get("titanik")


def load_error(tmp_path: Path, text: str) -> str:
    (tmp_path / "zz").mkdir()
    (tmp_path / "zz" / "__init__.py").touch()
    (tmp_path / "zz" / "project.py").write_text(text)
    completed = subprocess.run(
        [sys.executable, "-c", "from phaseflow import discovery; discovery.get('zz')"],
        env=os.environ | {"PHASEFLOW_PROJECTS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=settings.ROOT,
    )
    assert completed.returncode == 1
    return completed.stderr


def test_projects_in_another_folder_are_discovered_and_validated(tmp_path: Path) -> None:
    error = load_error(tmp_path, "project = 3")
    assert "projects/zz/project.py does not define `project = Project(...)`; found: int. Assign a Project to" in error


@pytest.mark.parametrize(
    ("field", "fix"),
    [
        ("task", "Remove it: the kind of the target decides the task."),
        ("seeds", "Correct the name; docs/reference/contract.md lists all fields."),
    ],
)
def test_a_field_that_does_not_exist_is_an_error(tmp_path: Path, field: str, fix: str) -> None:
    error = load_error(tmp_path, f"from phaseflow import Project\nproject = Project({field}='text')")
    assert f"unexpected keyword argument '{field}'" in error
    assert fix in error


def test_a_reference_to_a_missing_module_is_an_error() -> None:
    with pytest.raises(ContractError, match=r"refers to the module projects\.titanic\.modle, which does not exist"):
        discovery.load("titanic.modle:train")


def test_bins_cover_every_value() -> None:
    numeric = Bins(feature="age", edges=(0.0, 10.0), shares=(0.1, 0.2, 0.3, 0.4))
    assert numeric.labels == ("< 0", "[0, 10)", ">= 10", MISSING)
    assert [numeric.index(v) for v in (-1, 0, 9.9, 10, math.nan, None)] == [0, 1, 1, 2, 3, 3]
    named = Bins(feature="sex", values=("f", "m"), shares=(0.5, 0.3, 0.1, 0.1))
    assert named.labels == ("f", "m", OTHER, MISSING)
    assert [named.index(v) for v in ("f", "m", "x", "", None)] == [0, 1, 2, 3, 3]
    assert reference.from_json(json.dumps(reference.to_json((numeric, named)))) == (numeric, named)


shares = st.lists(st.integers(0, 1000), min_size=3, max_size=8).filter(lambda counts: sum(counts) > 0)


@given(shares, shares)
def test_psi_is_a_symmetric_divergence(left: list[int], right: list[int]) -> None:
    size = min(len(left), len(right))
    if sum(left[:size]) == 0 or sum(right[:size]) == 0:
        return
    p = [count / sum(left[:size]) for count in left[:size]]
    q = [count / sum(right[:size]) for count in right[:size]]
    assert psi(p, p) == 0
    assert psi(p, q) >= 0
    assert psi(p, q) == pytest.approx(psi(q, p))


def test_importing_phaseflow_disables_the_telemetry_of_onnxruntime() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    program = "import phaseflow, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    completed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=settings.ROOT,
        env=environment | {"PYTHONPATH": str(settings.ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.strip() == "1"
