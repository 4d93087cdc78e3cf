"""The workspace is what Evidently reads: it follows the store, and a damaged file is put aside."""

from __future__ import annotations

import gzip
import json
import os
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

os.environ["DO_NOT_TRACK"] = "1"  # before Evidently is imported

import pytest
from evidently.core.serialization import SnapshotModel
from evidently.sdk.models import DashboardModel, ProjectModel
from evidently.ui.service.storage.local import LocalState

from phaseflow import discovery
from phaseflow.errors import PlatformError
from phaseflow.reports import project_id, run_id, run_key
from phaseflow.store import Store
from services.monitor import workspace
from services.monitor.dashboard import dashboard

PROJECTS = [discovery.get(name) for name in ("titanic", "house_prices", "recommender")]


def content(name: str) -> bytes:
    model = SnapshotModel(
        report={"items": []},
        name=name,
        timestamp=datetime(2026, 1, 1),  # noqa: DTZ001  # Evidently's times have no zone
        metadata={},
        tags=[],
        metric_results={},
        top_level_metrics=[],
        widgets=[],
        tests_widgets=[],
    )
    return gzip.compress(model.json().encode())


def windows(count: int) -> list[str]:
    return [f"202601{day:02}T000000Z" for day in range(1, count + 1)]


def write(store: Store, project: str, names: Sequence[str]) -> None:
    for name in names:
        store.write(run_key(project, name, "drift"), content(name))


def mirror(store: Store, folder: Path) -> None:
    workspace.prepare(PROJECTS, folder)
    for project in PROJECTS:
        workspace.mirror(store, project, folder)


def names(folder: Path, project: str) -> list[str | None]:
    """Names of the runs as Evidently loads them."""
    state = LocalState.load(str(folder), None)
    return sorted(snapshot.name for snapshot in state.snapshots[project_id(project)].values())


def test_the_workspace_follows_the_store(tmp_path: Path) -> None:
    store, folder = Store(str(tmp_path / "store")), tmp_path / "workspace"
    write(store, "titanic", windows(3))
    mirror(store, folder)
    assert names(folder, "titanic") == windows(3)
    first = folder / str(project_id("titanic")) / "snapshots" / f"{run_id('titanic', windows(1)[0], 'drift')}.json"
    inode = first.stat().st_ino
    store.delete(run_key("titanic", windows(2)[1], "drift"))
    write(store, "recommender", windows(1))
    mirror(store, folder)
    assert names(folder, "titanic") == [windows(3)[0], windows(3)[2]]
    assert names(folder, "recommender") == windows(1)
    assert names(folder, "house_prices") == []
    assert first.stat().st_ino == inode  # a run that is there is not written again
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json"}


def test_what_evidently_holds_in_memory_follows_the_folder(tmp_path: Path) -> None:
    store, folder = Store(str(tmp_path / "store")), tmp_path / "workspace"
    write(store, "titanic", windows(2))
    mirror(store, folder)
    state = LocalState.load(str(folder), None)
    snapshots = state.snapshots[project_id("titanic")]
    first = snapshots[run_id("titanic", windows(1)[0], "drift")]
    store.delete(run_key("titanic", windows(2)[1], "drift"))
    write(store, "titanic", windows(3)[2:])
    mirror(store, folder)
    workspace.refresh(state, PROJECTS[0])
    assert sorted(str(snapshot.name) for snapshot in snapshots.values()) == [windows(3)[0], windows(3)[2]]
    assert snapshots[run_id("titanic", windows(1)[0], "drift")] is first  # it is not read again


def test_only_the_newest_windows_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "WINDOWS", 2)
    store, folder = Store(str(tmp_path / "store")), tmp_path / "workspace"
    write(store, "titanic", windows(2))
    mirror(store, folder)
    write(store, "titanic", windows(3))
    mirror(store, folder)
    assert names(folder, "titanic") == windows(3)[1:]


def test_projects_and_runs_of_others_are_left_alone(tmp_path: Path) -> None:
    store, folder = Store(str(tmp_path / "store")), tmp_path / "workspace"
    mirror(store, folder)
    own = ProjectModel(name="my own")
    home = folder / str(own.id)
    (home / "snapshots").mkdir(parents=True)
    (home / "metadata.json").write_text(own.json())
    run = home / "snapshots" / f"{uuid.uuid4()}.json"
    run.write_bytes(gzip.decompress(content("theirs")))
    mirror(store, folder)
    assert run.exists()
    assert len(LocalState.load(str(folder), None).projects) == len(PROJECTS) + 1


def test_a_store_that_is_away_removes_nothing(tmp_path: Path) -> None:
    store, folder = Store(str(tmp_path / "store")), tmp_path / "workspace"
    write(store, "titanic", windows(1))
    mirror(store, folder)

    class Away:
        def keys(self, _prefix: str) -> list[str]:
            raise PlatformError("The store is away", fix="Start it")

    with pytest.raises(PlatformError):
        workspace.mirror(Away(), PROJECTS[0], folder)  # type: ignore[arg-type]
    assert names(folder, "titanic") == windows(1)


def test_a_file_that_a_killed_writer_left_is_put_aside(tmp_path: Path) -> None:
    store, folder = Store(str(tmp_path / "store")), tmp_path / "workspace"
    write(store, "titanic", windows(2))
    mirror(store, folder)
    snapshots = folder / str(project_id("titanic")) / "snapshots"
    damaged = snapshots / f"{run_id('titanic', windows(1)[0], 'drift')}.json"
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(json.JSONDecodeError):
        LocalState.load(str(folder), None)  # why Evidently would not start
    assert workspace.repair(folder) == [damaged.with_name(f"{damaged.name}.damaged")]
    assert names(folder, "titanic") == windows(2)[1:]
    mirror(store, folder)
    assert names(folder, "titanic") == windows(2)


@pytest.mark.parametrize("name", discovery.names())
def test_evidently_reads_every_projects_dashboard(name: str) -> None:
    model = DashboardModel(**dashboard(discovery.get(name)))
    titles = [panel.title for panel in model.panels]
    assert titles[:4] == ["Drifted columns", "Drift per column", "Rows", "Missing values"]
    assert len({panel.id for panel in model.panels}) == len(titles)


def test_a_changed_contract_changes_the_dashboard(tmp_path: Path) -> None:
    store, folder = Store(str(tmp_path / "store")), tmp_path / "workspace"
    mirror(store, folder)
    path = folder / str(project_id("titanic")) / "dashboard.json"
    content = path.read_bytes()
    path.write_text('{"tabs": [], "panels": []}')
    mirror(store, folder)
    assert path.read_bytes() == content
