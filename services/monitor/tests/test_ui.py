"""Evidently's pages as a process: who may write, what they follow, what they may load, and what survives a kill."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["DO_NOT_TRACK"] = "1"  # before Evidently is imported

import httpx
import pandas as pd
import pytest
from evidently import Report
from evidently.presets import DataSummaryPreset
from evidently.ui.workspace import RemoteWorkspace

from phaseflow.reports import project_id, run_id, run_key
from phaseflow.settings import PORTS, ROOT
from phaseflow.store import Store
from phaseflow.testing import free_port, wait_for
from services.monitor.tests.test_workspace import content, windows
from services.monitor.ui import READS_BY_POST

SECRET = "a-secret-of-the-tests"
TITANIC = project_id("titanic")


class Pages:
    """A process of Evidently's pages."""

    def __init__(self, home: Path) -> None:
        self.home, self.store = home, Store(str(home / "store"))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = os.environ | {
            "PHASEFLOW_HOME": str(home),
            "PHASEFLOW_PORT_OFFSET": str(port - PORTS["evidently"]),
            "PHASEFLOW_EVIDENTLY_MIRROR_SECONDS": "0.2",
            "PYTHONPATH": str(ROOT),
        }
        (home / "secrets").mkdir()
        (home / "secrets" / "evidently_secret").write_text(SECRET)
        self.child: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it, and wait for its health check."""
        self.child = subprocess.Popen([sys.executable, "-m", "services.monitor.ui"], cwd=ROOT, env=self.environment)
        wait_for("Evidently's pages", self.healthy, 120)

    def healthy(self) -> bool:
        """Whether it is healthy."""
        assert self.child.poll() is None, "it ended"
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Kill it."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def projects(self) -> set[tuple[str, str]]:
        """Ids and names of all projects."""
        response = httpx.get(f"{self.url}/api/v2/projects").raise_for_status()
        return {(project["id"], project["name"]) for project in response.json()}

    def runs(self, project: uuid.UUID = TITANIC) -> list[str]:
        """Ids of the runs that the API lists."""
        response = httpx.get(f"{self.url}/api/projects/{project}/reports").raise_for_status()
        return sorted(run["id"] for run in response.json())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    pages = Pages(tmp_path_factory.mktemp("pages"))
    pages.start()
    yield pages
    pages.kill()


def test_a_stored_run_appears_and_one_that_is_removed_disappears(pages: Pages) -> None:
    first, second = windows(2)
    for window in (first, second):
        pages.store.write(run_key("titanic", window, "drift"), content(window))
    ids = {window: str(run_id("titanic", window, "drift")) for window in (first, second)}
    wait_for("both runs", lambda: pages.runs() == sorted(ids.values()))
    metadata = httpx.get(f"{pages.url}/api/projects/{TITANIC}/{ids[first]}/metadata").raise_for_status().json()
    assert metadata["timestamp"].startswith("2026-01-01T00:00:00")
    pages.store.delete(run_key("titanic", first, "drift"))
    wait_for("the run is removed", lambda: pages.runs() == [ids[second]])
    response = httpx.get(f"{pages.url}/api/projects/{TITANIC}/{ids[first]}/data")
    assert response.status_code >= 400


def unsafe_routes(pages: Pages) -> list[tuple[str, str]]:
    """Methods and paths of the whole API that are no GET."""
    schema: dict[str, Any] = httpx.get(f"{pages.url}/schema/openapi.json").raise_for_status().json()
    return [
        (method.upper(), re.sub(r"\{[^}]*\}", str(uuid.uuid4()), path))
        for path, methods in schema["paths"].items()
        for method in methods
        if method not in {"get", "head", "options"}
    ]


def test_every_route_that_changes_something_needs_the_secret(pages: Pages) -> None:
    routes = unsafe_routes(pages)
    assert len(routes) > 20
    reads = [path for _, path in routes if READS_BY_POST.fullmatch(path)]
    assert len(reads) == 1
    for method, path in routes:
        if path in reads:
            continue
        for headers in ({}, {"evidently-secret": "wrong"}, {"authorization": f"Bearer {SECRET}"}):
            response = httpx.request(method, pages.url + path, headers=headers, json={})
            assert response.status_code == 401, (method, path)
            assert response.json()["error"]["problem"] == "The secret of Evidently is missing or wrong"
    twice = [("evidently-secret", "wrong"), ("evidently-secret", SECRET)]
    assert httpx.post(f"{pages.url}/api/v2/projects", headers=twice, json={}).status_code == 401


def test_a_remote_workspace_writes_with_the_secret_and_is_left_alone(pages: Pages) -> None:
    workspace = RemoteWorkspace(pages.url, secret=SECRET)
    project = workspace.create_project("my own")
    snapshot = Report([DataSummaryPreset()]).run(pd.DataFrame({"a": [1.0, 2.0, 3.0]}), None)
    run = workspace.add_run(project.id, snapshot)
    assert pages.runs(project.id) == [str(run.id)]
    with pytest.raises(Exception, match="The secret of Evidently is missing or wrong"):
        RemoteWorkspace(pages.url, secret="wrong").create_project("another")


def test_the_code_of_the_documentation_writes_a_run(pages: Pages) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/use-from-evidently.md").read_text(), re.DOTALL)
    code = code.replace("http://127.0.0.1:8086", pages.url).replace(".phaseflow/", f"{pages.home}/")
    before = pages.projects()
    subprocess.run([sys.executable, "-c", code], check=True, env=pages.environment)
    ((project, name),) = pages.projects() - before
    assert name == "my own"
    assert len(pages.runs(uuid.UUID(project))) == 1


def test_strangers_are_refused_and_pages_load_nothing_from_elsewhere(pages: Pages) -> None:
    refused = httpx.get(f"{pages.url}/api/version", headers={"host": "evil.example"})
    assert refused.status_code == 403
    policy = httpx.get(pages.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert "'sha256-" in policy  # of the one script within the page
    assert httpx.get(pages.url).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/%00", "/static/a%00b", "/" + "a" * 300, "/projects/<script>", "/static/" + "a" * 300]
)
def test_odd_paths_are_not_found(pages: Pages, path: str) -> None:
    response = httpx.get(pages.url + path)
    assert response.status_code == 404
    assert response.json()["error"]["problem"] == "There is no such page"


def test_the_secret_is_in_no_listing_and_telemetry_is_off(pages: Pages) -> None:
    process = Path(f"/proc/{pages.child.pid}")
    assert SECRET.encode() not in (process / "cmdline").read_bytes()
    assert SECRET.encode() not in (process / "environ").read_bytes()
    loaded = subprocess.run(
        [sys.executable, "-c", "from services.monitor import ui; import os; print(os.environ['DO_NOT_TRACK'])"],
        cwd=ROOT,
        env=pages.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "1\n"


def test_it_starts_after_a_kill_in_mid_write(pages: Pages) -> None:
    window = windows(5)[4]
    pages.store.write(run_key("titanic", window, "quality"), content(window))
    name = str(run_id("titanic", window, "quality"))
    wait_for("the run", lambda: name in pages.runs())
    pages.kill()
    (path,) = pages.home.glob(f"evidently/*/snapshots/{name}.json")
    path.write_bytes(path.read_bytes()[:20])
    pages.start()
    wait_for("the run is there again", lambda: name in pages.runs())
    assert path.with_name(f"{path.name}.damaged").exists()
