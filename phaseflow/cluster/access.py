"""Where the release's pages are, and the passwords that were generated for it."""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Final

from phaseflow.cluster import kube
from phaseflow.cluster.kube import Release
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.store import write_atomic

LOCAL: Final = "http://localhost:30080"
"""`global.publicUrl` where nobody has set it: the front door's port on the node."""
DOOR: Final = "door_password"


def settings(release: Release) -> Settings:
    """The way from this machine to the release: every address goes through the front door, and secrets are files of mode 0600.

    Raises PlatformError where there is no such release, or no door.
    """
    given = kube.values(release)
    public = str(given["global"].get("publicUrl") or LOCAL).rstrip("/")
    home = from_environment().home / "cluster" / f"{release.namespace}.{release.name}"
    held = secrets(release, given)
    for key in {"feedback_tokens"} - held.keys():  # of an earlier release
        (home / "secrets" / key).unlink(missing_ok=True)
    for key, value in held.items():
        write_atomic(home / "secrets" / key, value.encode(), mode=0o600)
    environment = dict(os.environ) | {"PHASEFLOW_HOME": str(home), "PHASEFLOW_PUBLIC_URL": public}
    environment["PHASEFLOW_PORTAL_URL"] = public
    for name in ("airflow", "mlflow", "pipelines", "serving", "monitor", "prometheus", "alertmanager", "grafana"):
        environment[f"PHASEFLOW_{name.upper()}_URL"] = f"{public}/{name}"
    # Requests are made of the rows that the release itself loads, whatever lies on this machine.
    environment |= {"PHASEFLOW_DATA_MIRROR": "", "PHASEFLOW_OFFLINE": "1" if given["global"].get("offline") else ""}
    drift = given["global"].get("drift", {})
    for name, key in (("WINDOW_SECONDS", "windowSeconds"), ("MINIMUM_ROWS", "minimumRows")):
        if drift.get(key):
            environment[f"PHASEFLOW_DRIFT_{name}"] = str(int(drift[key]))
    return from_environment(environment)


def secrets(release: Release, given: dict[str, Any]) -> dict[str, str]:
    """The passwords and tokens of the release's Secrets, by key; those of your own Secrets too."""
    named = {
        "airflow_admin_password": given["airflow"].get("existingSecret") or f"{release.name}-airflow",
        "hook_token": given["monitoring"].get("existingSecret") or f"{release.name}-monitoring",
        "grafana_admin_password": given["monitoring"].get("existingSecret") or f"{release.name}-monitoring",
        DOOR: given["door"].get("existingSecret") or f"{release.name}-door",
        # With which `traffic` and `demo` tell the truth.
        "feedback_tokens": given["serving"].get("feedback", {}).get("existingSecret") or f"{release.name}-serving",
    }
    found: dict[str, str] = {}
    for key, secret in named.items():
        data = _secret(release, secret)
        if key in data:
            found[key] = base64.b64decode(data[key]).decode()
    return found


def _secret(release: Release, name: str) -> dict[str, str]:
    try:
        held = json.loads(kube.kubectl(release, "get", "secret", name, "--output", "json"))
    except PlatformError as error:
        if "not found" in error.problem:  # a part that is switched off
            return {}
        raise
    data: dict[str, str] = held.get("data", {})
    return data


def urls(release: Release, *, passwords: bool) -> list[dict[str, str]]:
    """Pages, users, and the command that prints each password; the passwords themselves only if asked for."""
    given = kube.values(release)
    public = str(given["global"].get("publicUrl") or LOCAL).rstrip("/")
    known = secrets(release, given)
    door = given["door"].get("existingSecret") or f"{release.name}-door"
    airflow = given["airflow"].get("existingSecret") or f"{release.name}-airflow"
    monitoring = given["monitoring"].get("existingSecret") or f"{release.name}-monitoring"
    pages = [("portal", "/", door, DOOR, given["portal"]["enabled"])]
    pages += [("Airflow", "/airflow/", airflow, "airflow_admin_password", given["airflow"]["enabled"])]
    pages += [("MLflow", "/mlflow/", door, DOOR, given["mlflow"]["enabled"])]
    watched = given["monitoring"]["enabled"]
    grafana = watched and given["monitoring"]["grafana"]["enabled"]
    pages += [("Grafana", "/grafana/", monitoring, "grafana_admin_password", grafana)]
    pages += [("Prometheus", "/prometheus/", door, DOOR, watched and given["monitoring"]["prometheus"]["enabled"])]
    pages += [
        ("Alertmanager", "/alertmanager/", door, DOOR, watched and given["monitoring"]["alertmanager"]["enabled"])
    ]
    kfp = given["pipelines"]["engine"] == "kfp" and given["kubeflow-pipelines"].get("ui", {}).get("enabled", True)
    pages += [("pipelines", "/pipelines/" if kfp else "/pipelines/apis/v2beta1/runs", door, DOOR, True)]
    pages += [("reports", "/monitor/reports", door, DOOR, watched)]
    pages += [("service", "/serving/docs", "", "", given["serving"]["enabled"])]
    outside = given["global"].get("addresses", {})
    found = []
    for name, path, secret, key, on in pages:
        where = outside.get(name.lower()) or (f"{public}{path}" if on else "")
        if not where:
            continue
        asked = bool(secret) and on
        command = (
            f"kubectl -n {release.namespace} get secret {secret} -o go-template='{{{{.data.{key} | base64decode}}}}'"
        )
        found.append(
            {
                "name": name,
                "url": where,
                "user": "admin" if asked else "",
                "password_command": command if asked else "",
                "password": known.get(key, "") if asked and passwords else "",
            }
        )
    return found
