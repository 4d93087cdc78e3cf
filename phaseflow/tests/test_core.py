"""The store, settings, registry, events and reference."""

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
from phaseflow import ContractError, PhaseflowError, PlatformError, events, reference, registry, settings
from phaseflow.reference import MISSING, OTHER, Bins, psi
from phaseflow.store import Store


def test_the_public_surface_is_what_it_was() -> None:
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


def test_a_write_is_whole_or_absent_when_the_disk_is_full(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a/b", b"first")
    code = (
        "import sys; from phaseflow.store import Store; from phaseflow import PlatformError\n"
        "try: Store(sys.argv[1]).write('a/b', b'x' * 200_000)\n"
        "except PlatformError as error: print(error)\n"
    )

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a full disk answers by an error, not by a signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
        cwd=settings.ROOT,
    )
    assert "can't be written: File too large. Free disk space or correct the folder's permissions." in done.stdout
    assert store.read("a/b") == b"first"
    assert list(store.keys("a")) == ["a/b"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_a_parent_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(PlatformError) as caught:
        Store(str(tmp_path)).write("a/b", b"")
    assert str(caught.value) == (
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
    found = events.read(store, "toy")
    assert [event["data"]["number"] for event in found] == [0, 1, 2]
    assert {"specversion", "id", "type", "source", "subject", "time"} <= found[0].keys()
    with pytest.raises(ValueError, match="event type 'bang'"):
        events.record(store, "toy", "bang", {}, source="test")


def test_settings_say_which_variable_is_wrong() -> None:
    with pytest.raises(PlatformError) as caught:
        settings.from_environment({"PHASEFLOW_PORT_OFFSET": "ten"})
    assert str(caught.value) == (
        "PHASEFLOW_PORT_OFFSET is 'ten'; allowed: a whole number. Correct or unset PHASEFLOW_PORT_OFFSET."
    )


def test_the_offset_moves_every_address() -> None:
    found = settings.from_environment({"PHASEFLOW_PORT_OFFSET": "10000"})
    assert found.serving_url == "http://127.0.0.1:13000"
    assert found.port("airflow") == 18080


def test_a_missing_secret_says_how_to_make_it(tmp_path: Path) -> None:
    found = settings.from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    with pytest.raises(PlatformError, match="Make it with `phaseflow up`"):
        found.secret("hook_token")


def test_an_unknown_project_gets_a_suggestion() -> None:
    with pytest.raises(PhaseflowError, match='Did you mean "titanic"\\?'):
        registry.get("titanik")


def broken(tmp_path: Path, text: str) -> str:
    (tmp_path / "zz").mkdir()
    (tmp_path / "zz" / "__init__.py").touch()
    (tmp_path / "zz" / "project.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", "from phaseflow import registry; registry.get('zz')"],
        env=os.environ | {"PHASEFLOW_PROJECTS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=settings.ROOT,
    )
    assert done.returncode == 1
    return done.stderr


def test_a_folder_elsewhere_is_found_and_its_faults_are_named(tmp_path: Path) -> None:
    error = broken(tmp_path, "project = 3")
    assert "projects/zz/project.py holds no `project = Project(...)`; found: int. Declare it under that name." in error


def test_a_reference_to_nothing_is_named() -> None:
    with pytest.raises(ContractError, match=r"names the module projects\.titanic\.modle, which does not exist"):
        registry.load("titanic.modle:train")


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


def test_onnxruntime_sends_nothing_whichever_program_imports_it() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    program = "import phaseflow, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=settings.ROOT,
        env=environment | {"PYTHONPATH": str(settings.ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"
