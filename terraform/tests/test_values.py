"""The values of the environments that need a public address, rendered by the chart: AWS' Ingress and Google Cloud's Gateway."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from phaseflow.settings import ROOT
from terraform.tests.conftest import TERRAFORM

HOST = "ml.example.com"
OUTSIDE = {
    "host": HOST,
    "postgres": {
        "host": "db.example.com",
        "secrets": {role: f"{role}-role" for role in ("airflow", "mlflow", "backup")},
        "administrator_secret": "administrator",
        "ssl_mode": "verify-full",
        "authorities_secret": "authorities",
    },
    "mysql": {"host": "mysql.example.com", "secret": "phaseflow-mysql"},
    "airflow_secret": "phaseflow-airflow",
    "personal_secret": "phaseflow-personal",
}
AWS = OUTSIDE | {
    "images": {
        "registry": "1.dkr.ecr.eu-central-1.amazonaws.com",
        "repository": "ml",
        "mirrors": {"quay.io": "m/quay"},
    },
    "store": {"bucket": "objects", "region": "eu-central-1"},
    "backup_target": "s3://backups/ml",
    "storage_class": "gp3",
    "batch_pod": {"nodeSelector": {"phaseflow.io/pool": "spot"}},
    "entrance": {
        "kind": "ingress",
        "class": "alb",
        "annotations": {"alb.ingress.kubernetes.io/certificate-arn": "arn"},
        "trusted_proxies": ["10.64.0.0/16"],
    },
}
GCP = OUTSIDE | {
    "images": {
        "registry": "europe-west3-docker.pkg.dev",
        "repository": "my-project/ml",
        "mirrors": {"docker.io": "m/hub"},
    },
    "storage_class": "premium-rwo",
    "entrance": {
        "kind": "gateway",
        "class": "gke-l7-global-external-managed",
        "annotations": {"networking.gke.io/certmap": "ml"},
        "trusted_proxies": ["35.191.0.0/16"],
        "gke_health_check": True,
    },
}


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert shutil.which("helm"), (
        "helm is not on the PATH. Install it: https://helm.sh/docs/intro/install (3.14 or newer)."
    )
    folder = tmp_path_factory.mktemp("charts")
    subprocess.run([ROOT / "bin" / "charts", folder], check=True)
    return folder


def values(folder: Path, variables: dict[str, Any], profile: str = "production") -> str:
    """The file that the module makes of these variables."""
    module = folder / "values"
    shutil.copytree(ROOT / "terraform" / "modules" / "values", module)
    text = (ROOT / "helm" / "platform" / f"values-{profile}.yaml").read_text()
    (module / "terraform.tfvars.json").write_text(json.dumps({"profile": text, **variables}))
    for command in (["init", "-input=false"], ["apply", "-auto-approve", "-input=false"]):
        completed = subprocess.run(
            [TERRAFORM, f"-chdir={module}", *command, "-no-color"], capture_output=True, text=True
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
    return subprocess.run(
        [TERRAFORM, f"-chdir={module}", "output", "-raw", "yaml"], capture_output=True, text=True
    ).stdout


def rendered(charts: Path, folder: Path, text: str) -> dict[tuple[str, str], dict[str, Any]]:
    path = folder / "values.yaml"
    path.write_text(text)
    command = ["helm", "template", "phaseflow", charts / "platform", "--namespace", "phaseflow", "--values", path]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(completed.stdout) if manifest]
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def test_production_on_aws_has_an_ingress_with_the_certificate_and_no_store_of_its_own(
    charts: Path, tmp_path: Path
) -> None:
    objects = rendered(charts, tmp_path, values(tmp_path, AWS))
    ingress = objects["Ingress", "phaseflow"]
    assert ingress["spec"]["ingressClassName"] == "alb"
    assert ingress["spec"]["rules"][0]["host"] == HOST
    assert ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/certificate-arn"] == "arn"
    names = {name for kind, name in objects if kind == "StatefulSet"}
    assert not names & {"phaseflow-postgres", "phaseflow-s3", "mysql"}
    assert ("Gateway", "phaseflow") not in objects
    (job,) = (objects[key] for key in objects if key[0] == "Job" and key[1].startswith("phaseflow-databases-"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "PGSSLMODE", "value": "verify-full"} in container["env"]
    volumes = json.dumps(job["spec"]["template"]["spec"]["volumes"])
    assert [name for name in ("administrator", "authorities", "backup-role") if name not in volumes] == []


def test_production_on_google_cloud_has_a_gateway_a_health_check_and_a_store(charts: Path, tmp_path: Path) -> None:
    text = values(tmp_path, GCP | {"backup_target": "s3://phaseflow-backup/ml"})
    objects = rendered(charts, tmp_path, text)
    gateway = objects["Gateway", "phaseflow"]
    assert gateway["spec"]["gatewayClassName"] == "gke-l7-global-external-managed"
    assert gateway["metadata"]["annotations"] == {"networking.gke.io/certmap": "ml"}
    assert ("HealthCheckPolicy", "phaseflow-proxy") in objects
    assert ("StatefulSet", "phaseflow-s3") in objects
    assert ("StatefulSet", "phaseflow-postgres") not in objects


def test_a_small_platform_is_reached_by_port_forward(charts: Path, tmp_path: Path) -> None:
    variables = {"images": AWS["images"], "store": AWS["store"], "postgres": AWS["postgres"]}
    objects = rendered(charts, tmp_path, values(tmp_path, variables, "small"))
    assert objects["Service", "phaseflow-proxy"]["spec"]["type"] == "ClusterIP"
    assert not {kind for kind, _ in objects} & {"Ingress", "Gateway"}


def test_a_value_that_the_chart_does_not_know_is_refused(charts: Path, tmp_path: Path) -> None:
    """The seam is the schema of the chart: what one side renames, the other's test sees."""
    text = values(tmp_path, {"images": AWS["images"]}, "small").replace('"publicUrl"', '"publicURL"')
    with pytest.raises(AssertionError, match="publicURL"):
        rendered(charts, tmp_path, text)
