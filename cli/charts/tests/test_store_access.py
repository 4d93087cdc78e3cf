"""Tests of the object store's keys on a real server: each key grants access only to the folders of its part."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from cli.charts.tests.rendering import Helm, Object, of_kind
from phaseflow.settings import ROOT, from_environment
from tests import stores

ALLOWED: Final[dict[str, dict[str, str]]] = {
    # Allowed operations (read, list, write, delete) of each part, by folder.
    "serving": {"store/predictions": "rlw", "store/feedback": "rlw", "store/events": "w"},
    "steps": {
        "store/sources": "rw",
        "store/staging": "rw",
        "store/quarantine": "w",
        "store/datasets": "rlw",
        "store/predictions": "rl",
        "store/feedback": "rl",
        "store/runs": "rw",
        "store/events": "w",
        "store/locks": "rw",
        "store/erased": "l",
    },
    "maintenance": {
        "store/predictions": "rlwd",
        "store/feedback": "rlwd",
        "store/staging": "ld",
        "store/quarantine": "ld",
        "store/datasets": "rlwd",
        "store/reports": "rld",
        "store/runs": "ld",
        "store/events": "ld",
        "store/erased": "rlw",
        "store/locks": "rw",
    },
    "monitor": {
        "store/predictions": "rl",
        "store/feedback": "rl",
        "store/datasets": "rl",
        "store/erased": "l",
        "store/reports": "rlwd",
        "store/events": "w",
    },
    "portal": {"store/events": "rl", "store/runs": "rl", "store/reports": "rl"},
    "mlflow": {"mlflow": "rlwd", "store/locks": "rw", "store/events": "w"},
    "airflow": {"airflow-logs": "rlw", "store/runs": "r", "store/events": "w"},
    "kfp": {"kfp": "rlwd", "*": "l"},
    "backup": {"*": "rl", "backup:objects": "rlw", "backup:backups": "rlw", "backup:locks": "rlw"},
    "restore": {"*": "w", "backup:objects": "rl", "backup:backups": "rl", "backup:locks": "rlw"},
    "prune": {"backup:objects": "rld", "backup:backups": "rld", "backup:locks": "rlwd"},
}
FOLDERS: Final = (
    *(
        f"store/{folder}"
        for folder in (
            *("sources", "staging", "quarantine", "datasets", "runs", "events", "predictions"),
            *("feedback", "reports", "erased", "locks"),
        )
    ),
    *("mlflow", "airflow-logs", "kfp", "elsewhere"),
)
REFUSED: Final = re.compile(r"denied|403|privileges", re.IGNORECASE)
MEMORY: Final = 80 << 20
"""Allowed memory growth of a backup in bytes, including the S3 client; the large object of the tests is larger."""
BACKUPS: Final = ("backup:objects", "backup:backups", "backup:locks", "backup:elsewhere")
NAMES: Final = {"backup:locks": "backup"}
"""Fixed object names; in other folders any name is allowed."""


@dataclass(frozen=True, slots=True)
class Objects:
    """The running store and the keys that the chart created."""

    server: stores.SeaweedFS
    keys: dict[str, tuple[str, str]]
    """Access key and secret key by part; "" is the administrator."""

    def bucket(self, part: str, bucket: str = "phaseflow") -> S3Store:
        access, secret = self.keys[part]
        return S3Store(
            bucket,
            endpoint=self.server.s3,
            region="us-east-1",
            access_key_id=access,
            secret_access_key=secret,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def environment(self, part: str, folder: Path) -> dict[str, str]:
        """Environment variables of a pod of the part."""
        access, secret = self.keys[part]
        path = folder / f"{part}-credentials"
        path.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
        return os.environ | {"AWS_ENDPOINT_URL": self.server.s3, "AWS_SHARED_CREDENTIALS_FILE": str(path)}


def _secrets(objects: tuple[Object, ...]) -> dict[str, dict[str, str]]:
    return {manifest["metadata"]["name"]: manifest["stringData"] for manifest in of_kind(objects, "Secret")}


@pytest.fixture(scope="module")
def objects(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Objects]:
    """SeaweedFS with the chart's configuration and the buckets that the chart's pod creates."""
    rendered = helm.objects("storage")
    secrets = _secrets(rendered)
    keys = {
        secret_name.removeprefix("p-s3").removeprefix("-"): (secret["accesskey"], secret["secretkey"])
        for secret_name, secret in secrets.items()
        if secret_name.startswith("p-s3")
    }
    with stores.seaweedfs(tmp_path_factory.mktemp("seaweedfs"), secrets["p-s3"]["s3.json"]) as server:
        pod = next(manifest for manifest in of_kind(rendered, "StatefulSet") if manifest["metadata"]["name"] == "p-s3")
        (container,) = pod["spec"]["template"]["spec"]["containers"]
        *shell, script = container["lifecycle"]["postStart"]["exec"]["command"]
        script = script.replace("127.0.0.1:9333", server.master).replace("127.0.0.1:8888", server.filer)
        path = f"{server.program.parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run([*shell, script], env={"PATH": path}, check=True, timeout=60)
        yield Objects(server, keys)


def test_every_part_has_its_own_key(objects: Objects) -> None:
    assert objects.keys.keys() == {"", *ALLOWED}
    assert len({access for access, _ in objects.keys.values()}) == len(objects.keys)


def _does(operation: str, store: S3Store, key: str, prefix: str) -> bool:
    """Whether the store allows the operation."""
    try:
        match operation:
            case "r":
                store.get(key).bytes()
            case "l":
                list(store.list(prefix))
            case "w":
                store.put(key, b"written", use_multipart=False)
            case "d":
                store.delete(key)
    except BaseError as error:
        if not REFUSED.search(str(error)):
            raise
        return False
    return True


@pytest.mark.parametrize("part", ALLOWED)
def test_a_key_opens_its_part_s_folders_and_no_other(objects: Objects, part: str) -> None:
    for folder, operation in itertools.product((*FOLDERS, *BACKUPS), "rlwd"):
        bucket = "phaseflow-backup" if folder in BACKUPS else "phaseflow"
        prefix = folder.removeprefix("backup:")
        key = f"{prefix}/{NAMES.get(folder, 'titanic/x')}"
        objects.bucket("", bucket).put(key, b"before", use_multipart=False)
        general = "" if folder in BACKUPS else ALLOWED[part].get("*", "")
        if folder == "backup:elsewhere":  # like any other folder of this bucket
            general = "".join(set(ALLOWED[part].get("backup:objects", "")))
        expected = operation in ALLOWED[part].get(folder, "") + general
        assert _does(operation, objects.bucket(part, bucket), key, prefix) == expected, (folder, operation)
        if not expected:
            assert bytes(objects.bucket("", bucket).get(key).bytes()) == b"before", (folder, operation)


def test_a_service_s_key_neither_removes_a_backup_nor_replaces_a_model(objects: Objects) -> None:
    model, backup = "mlflow/1/models/m/artifacts/model.onnx", "backups/20260102T030405Z/manifest.json"
    objects.bucket("").put(model, b"model", use_multipart=False)
    objects.bucket("", "phaseflow-backup").put(backup, b"{}", use_multipart=False)
    for part in ("serving", "steps", "monitor", "portal", "mlflow", "airflow", "kfp"):
        for attack in (
            lambda store: store.delete(backup),
            lambda store: store.put(backup, b"", use_multipart=False),
            lambda store: store.put(backup, b"0" * (6 << 20), use_multipart=True),
            lambda store: store.rename(backup, "backups/elsewhere"),
        ):
            with pytest.raises(BaseError, match=REFUSED):
                attack(objects.bucket(part, "phaseflow-backup"))
    with pytest.raises(BaseError, match=REFUSED):
        objects.bucket("serving").put(model, b"mine", use_multipart=False)
    with pytest.raises(BaseError, match=REFUSED):
        objects.bucket("serving").copy("store/predictions/titanic/x", model)
    assert bytes(objects.bucket("").get(model).bytes()) == b"model"
    assert bytes(objects.bucket("", "phaseflow-backup").get(backup).bytes()) == b"{}"


def test_a_missing_object_is_not_reported_as_a_denied_access(objects: Objects) -> None:
    with pytest.raises(FileNotFoundError):
        objects.bucket("steps").head("store/sources/titanic/none")


def _backup(objects: Objects, part: str, folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run `services.backup ARGUMENTS` with the key of a part. Returns the process and its memory growth in bytes."""
    return stores.measured("services.backup", *arguments, environment=objects.environment(part, folder))


def test_saving_pruning_and_restoring_backups_each_need_their_own_key(objects: Objects, tmp_path: Path) -> None:
    source, target, dumps = "s3://phaseflow", "s3://phaseflow-backup/nightly", str(tmp_path / "dumps")
    large = os.urandom(1 << 20) * 96
    (tmp_path / "dumps").mkdir()
    (tmp_path / "dumps" / "mlflow.dump").write_bytes(b"runs")
    objects.bucket("").put("mlflow/1/models/large", large)
    backups = []
    for number in range(2):
        objects.bucket("").put("store/runs/titanic/verdict.json", f"verdict {number}".encode(), use_multipart=False)
        completed, growth = _backup(objects, "backup", tmp_path, "save", source, target, dumps)
        assert completed.returncode == 0, completed.stderr
        assert growth < MEMORY
        backups.append(json.loads(completed.stdout)["backup"])

    def list_backup() -> set[str]:
        pages = objects.bucket("", "phaseflow-backup").list("nightly")
        return {str(entry["path"]) for page in pages for entry in page}

    before = list_backup()
    for part in ("backup", "serving"):
        refused, _ = _backup(objects, part, tmp_path, "prune", target, "--keep", "1")
        assert refused.returncode == 1, (part, refused.stdout)
        assert f" ERROR backup: The store {target} does not do what was asked" in refused.stderr, refused.stderr
        assert list_backup() >= before - {"nightly/locks/backup"}, part
    refused, _ = _backup(objects, "prune", tmp_path, "restore", source, target, str(tmp_path / "back"))
    assert refused.returncode == 1
    assert " ERROR backup: The store s3://phaseflow does not do what was asked" in refused.stderr, refused.stderr
    completed, _ = _backup(objects, "prune", tmp_path, "prune", target, "--keep", "1")
    assert json.loads(completed.stdout)["removed"] == 1, completed.stderr
    for key in ("mlflow/1/models/large", "store/runs/titanic/verdict.json"):
        objects.bucket("").delete(key)
    back = str(tmp_path / "back")
    completed, growth = _backup(objects, "restore", tmp_path, "restore", source, target, back, "--at", backups[-1])
    assert completed.returncode == 0, completed.stderr
    assert growth < MEMORY
    assert bytes(objects.bucket("").get("mlflow/1/models/large").bytes()) == large
    assert bytes(objects.bucket("").get("store/runs/titanic/verdict.json").bytes()) == b"verdict 1"
    assert (tmp_path / "back" / "mlflow.dump").read_bytes() == b"runs"


def test_only_the_maintenance_key_can_clean_and_forget(objects: Objects, tmp_path: Path) -> None:
    """Run the real commands on the real store with the keys that the chart created."""
    log = "predictions/titanic/date=2020-01-01/hour=00/x.parquet"
    administrator = objects.bucket("")
    python = from_environment().python("tabular")

    def run(part: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "pipelines.retention", *arguments, "--project", "titanic"]
        environment = objects.environment(part, tmp_path) | {
            "PHASEFLOW_STORE": "s3://phaseflow/store",
            "PHASEFLOW_HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    script = "import io, sys, polars; from datetime import datetime, UTC; out = io.BytesIO(); "
    script += "polars.DataFrame({'id': ['a-0', 'a-1'], 'time': [datetime.now(UTC)] * 2}).write_parquet(out); "
    script += "sys.stdout.buffer.write(out.getvalue())"
    content = subprocess.run([python, "-c", script], check=True, capture_output=True).stdout
    later = log.replace("2020", "2999")
    for part, allowed in (("steps", False), ("maintenance", True)):
        for key in (log, later):
            administrator.put(f"store/{key}", content, use_multipart=False)
        forgotten = run(part, "forget", "--id=a-0")
        assert (forgotten.returncode == 0) is allowed, forgotten.stderr
        cleaned = run(part, "clean")
        assert (cleaned.returncode == 0) is allowed, cleaned.stderr
        remaining = {entry["path"] for page in administrator.list("store/predictions/titanic") for entry in page}
        assert (f"store/{log}" not in remaining) is allowed
        assert f"store/{later}" in remaining
    assert bytes(administrator.get(f"store/{later}").bytes()) != content


LOG = """
import sys
from datetime import UTC, datetime, timedelta
from phaseflow.store import Store
from pipelines.etl.tests.world import World
world = World(Store("s3://phaseflow/store"), now=datetime.now(UTC) - timedelta(hours=float(sys.argv[1])))
for number in range(20):
    world.label(world.predict(5), str(number % 2), "ann")
    world.pass_(0.1)
"""
"""Write two minutes of predictions and labels in the format of the service."""
SNAPSHOT = """
import json
from phaseflow.settings import from_environment
from phaseflow.store import Store
from pipelines.etl.extract import extract
from pipelines.etl.snapshot import snapshot
from pipelines.etl.tests.world import TITANIC
from pipelines.etl.validate import validate
settings = from_environment()
store = Store(settings.store)
extracted = extract(TITANIC, "run", settings, store)
validate(TITANIC, "run", store)
result = snapshot(TITANIC, "run", store, extracted)
manifest = json.loads(store.read(f"datasets/titanic/{result['snapshot']}/manifest.json"))
print(json.dumps([result["feedback_rows"], manifest["whole"]]))
"""


def test_maintenance_compacts_the_log_and_steps_extend_their_snapshot(objects: Objects, tmp_path: Path) -> None:
    python = from_environment().python("tabular")
    administrator = objects.bucket("")
    for folder in ("predictions", "feedback", "datasets", "erased"):
        for page in administrator.list(f"store/{folder}/titanic"):
            for entry in page:
                administrator.delete(entry["path"])

    def run(part: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = objects.environment(part, tmp_path) | {
            "PHASEFLOW_STORE": "s3://phaseflow/store",
            "PHASEFLOW_HOME": str(tmp_path),
            "PHASEFLOW_OFFLINE": "1",
            "PHASEFLOW_DATA_MIRROR": "",
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.run([python, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)

    def files() -> list[str]:
        pages = [*administrator.list("store/predictions/titanic"), *administrator.list("store/feedback/titanic")]
        return sorted(entry["path"].rpartition("/")[2] for page in pages for entry in page)

    def snapshot() -> tuple[int, str | None]:
        completed = run("steps", "-c", SNAPSHOT)
        assert completed.returncode == 0, completed.stderr
        rows, whole = json.loads(completed.stdout.splitlines()[-1])
        return rows, whole

    assert run("serving", "-c", LOG, "50").returncode == 0
    assert len(files()) == 40
    assert snapshot() == (100, "no earlier snapshot has a state")
    compact = ["-m", "pipelines.etl.compact"]
    refused = run("steps", *compact)
    assert refused.returncode == 1
    assert "does not do what was asked" in refused.stderr
    completed = run("maintenance", *compact)
    assert completed.returncode == 0, completed.stderr
    assert {name.partition("-")[0] for name in files()} == {"compacted", "statistics.json"}
    assert snapshot() == (
        100,
        "no earlier snapshot has a state",
    )  # the content is the same, so the manifest is the same
    assert run("serving", "-c", LOG, "0").returncode == 0
    assert snapshot() == (200, None)
