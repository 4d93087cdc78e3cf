"""URLs and credentials of a release."""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Final

from cli.kubernetes import kube
from cli.kubernetes.kube import Release
from cli.platforms import Page
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.store import write_atomic

LOCAL: Final = "http://localhost:30080"
"""Default of `global.publicUrl`: the reverse proxy's port on the node."""
PROXY: Final = "proxy_password"


def settings(release: Release) -> Settings:
    """Settings to reach the release from this machine.

    Every URL goes through the reverse proxy, and secrets are written to files of mode 0600. Raises PlatformError if the
    release does not exist.
    """
    values = kube.values(release)
    public = str(values["global"].get("publicUrl") or LOCAL).rstrip("/")
    home = from_environment().home / "cluster" / f"{release.namespace}.{release.name}"
    credentials = secrets(release, values)
    for key in {"feedback_tokens"} - credentials.keys():  # left by an earlier release
        (home / "secrets" / key).unlink(missing_ok=True)
    for key, value in credentials.items():
        write_atomic(home / "secrets" / key, value.encode(), mode=0o600)
    environment = dict(os.environ) | {"PHASEFLOW_HOME": str(home), "PHASEFLOW_PUBLIC_URL": public}
    environment["PHASEFLOW_PORTAL_URL"] = public
    for name in ("airflow", "mlflow", "pipelines", "serving", "monitor", "prometheus", "alertmanager", "grafana"):
        environment[f"PHASEFLOW_{name.upper()}_URL"] = f"{public}/{name}"
    # Requests contain the rows that the release itself loads, not data of this machine.
    environment |= {"PHASEFLOW_DATA_MIRROR": "", "PHASEFLOW_OFFLINE": "1" if values["global"].get("offline") else ""}
    drift = values["global"].get("drift", {})
    for name, key in (("WINDOW_SECONDS", "windowSeconds"), ("MINIMUM_ROWS", "minimumRows")):
        if drift.get(key):
            environment[f"PHASEFLOW_DRIFT_{name}"] = str(int(drift[key]))
    return from_environment(environment)


def secrets(release: Release, values: dict[str, Any]) -> dict[str, str]:
    """Passwords and tokens by key, from the release's Secrets and from existing Secrets that its values name."""
    secret_names = {
        "airflow_admin_password": values["airflow"].get("existingSecret") or f"{release.name}-airflow",
        "hook_token": values["monitoring"].get("existingSecret") or f"{release.name}-monitoring",
        "grafana_admin_password": values["monitoring"].get("existingSecret") or f"{release.name}-monitoring",
        PROXY: values["proxy"].get("existingSecret") or f"{release.name}-proxy",
        # `traffic` and `demo` send labels with it.
        "feedback_tokens": values["serving"].get("feedback", {}).get("existingSecret") or f"{release.name}-serving",
    }
    credentials: dict[str, str] = {}
    for key, secret in secret_names.items():
        data = _secret(release, secret)
        if key in data:
            credentials[key] = base64.b64decode(data[key]).decode()
    return credentials


def _secret(release: Release, name: str) -> dict[str, str]:
    try:
        secret = json.loads(kube.kubectl(release, "get", "secret", name, "--output", "json"))
    except PlatformError as error:
        if "not found" in error.problem:  # the part is disabled
            return {}
        raise
    data: dict[str, str] = secret.get("data", {})
    return data


def pages(release: Release, *, passwords: bool) -> list[Page]:
    """Pages with users and the commands that print passwords; passwords are included only if `passwords` is set.

    With one login people have their own users and passwords, at the provider.
    """
    values = kube.values(release)
    public = str(values["global"].get("publicUrl") or LOCAL).rstrip("/")
    credentials = secrets(release, values)
    outside = values["global"].get("addresses", {})
    context = f"--context {release.context} " if release.context else ""
    provider = values["global"].get("auth", {}).get("oidc", {}).get("enabled", False)
    result = []
    for name, path, secret, key, enabled in _components(release, values):
        url = outside.get(name.lower()) or (f"{public}{path}" if enabled else "")
        if not url:
            continue
        has_login = bool(secret) and enabled and not provider
        template = f"'{{{{.data.{key} | base64decode}}}}'"
        command = f"kubectl {context}-n {release.namespace} get secret {secret} -o go-template={template}"
        result.append(
            Page(
                name=name,
                url=url,
                user="admin" if has_login else "",
                password_command=command if has_login else "",
                password=credentials.get(key, "") if has_login and passwords else "",
            )
        )
    return result


def _components(release: Release, values: dict[str, Any]) -> list[tuple[str, str, str, str, bool]]:
    """Name, path, Secret and key of each page, and whether the release has it."""
    proxy = values["proxy"].get("existingSecret") or f"{release.name}-proxy"
    airflow = values["airflow"].get("existingSecret") or f"{release.name}-airflow"
    monitoring = values["monitoring"].get("existingSecret") or f"{release.name}-monitoring"
    monitored = values["monitoring"]["enabled"]
    grafana, prometheus, alertmanager = (
        monitored and values["monitoring"][name]["enabled"] for name in ("grafana", "prometheus", "alertmanager")
    )
    kfp = values["pipelines"]["engine"] == "kfp" and values["kubeflow-pipelines"].get("ui", {}).get("enabled", True)
    pipelines = "/pipelines/" if kfp else "/pipelines/apis/v2beta1/runs"
    return [
        ("portal", "/", proxy, PROXY, values["portal"]["enabled"]),
        ("Airflow", "/airflow/", airflow, "airflow_admin_password", values["airflow"]["enabled"]),
        ("MLflow", "/mlflow/", proxy, PROXY, values["mlflow"]["enabled"]),
        ("Grafana", "/grafana/", monitoring, "grafana_admin_password", grafana),
        ("Prometheus", "/prometheus/", proxy, PROXY, prometheus),
        ("Alertmanager", "/alertmanager/", proxy, PROXY, alertmanager),
        ("pipelines", pipelines, proxy, PROXY, True),
        ("reports", "/monitor/reports", proxy, PROXY, monitored),
        ("service", "/serving/docs", "", "", values["serving"]["enabled"]),
    ]
