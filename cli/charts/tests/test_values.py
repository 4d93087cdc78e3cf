"""Tests of wrong values, of incompatible values, and of the generated READMEs and schemas."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from cli.charts import charts, generate, readme, schema
from cli.charts.tests.rendering import Helm
from phaseflow import discovery, generated
from phaseflow.errors import ContractError
from phaseflow.settings import ROOT

PLACEHOLDER = re.compile(r"<[a-z-]+>")

LOGIN = "global.auth.oidc.enabled=true,global.auth.oidc.issuer=https://login.example.com,global.auth.oidc.existingSecret=login"


@pytest.mark.parametrize(
    ("chart", "setting", "message"),
    [
        (
            "platform",
            "airflow.executor=Celery",
            "at '/executor': value must be one of 'LocalExecutor', 'KubernetesExecutor'",
        ),
        ("platform", "serving.replicas=two", "at '/replicas': got string, want integer"),
        ("platform", "serving.replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("platform", "pipelines.engine=argo", "at '/pipelines/engine': value must be one of 'local', 'kfp'"),
        ("platform", "global.publicURL=x", "at '/global': additional properties 'publicURL' not allowed"),
        ("platform", "airlfow.enabled=false", "at '': additional properties 'airlfow' not allowed"),
        ("platform", "storage.postgress.enabled=false", "at '': additional properties 'postgress' not allowed"),
        (
            "platform",
            "proxy.type=ExternalName",
            "at '/proxy/type': value must be one of 'NodePort', 'ClusterIP', 'LoadBalancer'",
        ),
        (
            "platform",
            "proxy.resources.limit.memory=1Gi",
            "at '/proxy/resources': additional properties 'limit' not allowed",
        ),
        ("platform", "proxy.image.digest=latest", "at '/proxy/image/digest': 'latest' does not match pattern"),
        ("platform", "global.images.pullSecrets[0]=1", "at '/global/images/pullSecrets/0': got number, want string"),
        ("platform", "backup.enabled=maybe", "at '/backup/enabled': got string, want boolean"),
        (
            "platform",
            "global.pod.nodeSelector=x",
            "at '/global/pod/nodeSelector': got string, want object",
        ),
        ("kubeflow-pipelines", "runs.runAsUser=0", "at '/runs/runAsUser': minimum: got 0, want 1"),
        ("kubeflow-pipelines", "runs.podGC=Never", "at '/runs/podGC': value must be one of"),
        ("monitoring", "windows=short", "at '/windows': value must be one of 'production', 'rehearsal'"),
        ("mlflow", "replica=2", "at '': additional properties 'replica' not allowed"),
    ],
    ids=lambda value: value if "=" in value else "",
)
def test_an_error_names_the_wrong_value(helm: Helm, chart: str, setting: str, message: str) -> None:
    assert message in helm.template_error(chart, "--set", setting)


@pytest.mark.parametrize(
    ("chart", "setting", "message"),
    [
        (
            "platform",
            "pipelines.engine=kfp",
            'pipelines.engine is "kfp", but there is no Kubeflow Pipelines: set kubeflow-pipelines.enabled to true, or '
            "global.addresses.pipelines to the address of yours.",
        ),
        (
            "platform",
            "kubeflow-pipelines.enabled=true",
            'kubeflow-pipelines.enabled is true, but pipelines.engine is "local": set pipelines.engine to "kfp", or '
            "kubeflow-pipelines.enabled to false.",
        ),
        (
            "platform",
            "global.store.external=true",
            "global.store.external is true, but there is no key: name a Secret with the key `credentials` in "
            "global.store.existingSecret, or set global.store.ambientCredentials.",
        ),
        (
            "platform",
            "global.postgres.host=db",
            "global.postgres.host is set, but there is no password of the user airflow: name a Secret with the key `pgpass` in "
            "global.postgres.existingSecret, or one for this user in global.postgres.existingSecrets.airflow.",
        ),
        (
            "platform",
            "global.postgres.host=db,global.postgres.existingSecrets.airflow=a",
            "global.postgres.host is set, but there is no password of the user mlflow: name a Secret with the key `pgpass` in "
            "global.postgres.existingSecret, or one for this user in global.postgres.existingSecrets.mlflow.",
        ),
        (
            "platform",
            "global.postgres.sslMode=require",
            'global.postgres.sslMode is "require", but the chart\'s own Postgres has no TLS: set global.postgres.host to the '
            "address of yours, or sslMode to prefer.",
        ),
        (
            "platform",
            "global.postgres.host=db,global.postgres.existingSecret=p,global.postgres.sslMode=verify-full",
            'global.postgres.sslMode is "verify-full", but no authority is known: name a Secret with the key `ca.crt` in '
            "global.postgres.caSecret.",
        ),
        (
            "platform",
            "global.postgres.bootstrap.enabled=true",
            "global.postgres.bootstrap.enabled is true, but the chart's own Postgres makes its databases itself: set "
            "global.postgres.host to the address of yours, or bootstrap.enabled to false.",
        ),
        (
            "platform",
            "global.postgres.host=db,global.postgres.existingSecret=p,global.postgres.bootstrap.enabled=true",
            "global.postgres.bootstrap.enabled is true, but nobody may create databases: name a Secret with the keys username "
            "and password in global.postgres.bootstrap.existingSecret.",
        ),
        (
            "platform",
            "gateway.enabled=true",
            "gateway.enabled is true without TLS: passwords and requests would cross the network in clear. Name a Secret of "
            "type kubernetes.io/tls in gateway.tlsSecret, set gateway.tlsByAnnotation where an annotation names the certificate, or "
            "set gateway.allowPlainHTTP for a network that you trust.",
        ),
        (
            "platform",
            "ingress.enabled=true,ingress.allowPlainHTTP=true,proxy.enabled=false",
            "ingress.enabled is true, but there is no reverse proxy to route to: set proxy.enabled to true.",
        ),
        (
            "platform",
            "ingress.enabled=true,ingress.tlsSecret=t",
            "ingress.host is empty, and the certificate in ingress.tlsSecret needs it. Set it to the name in global.publicUrl.",
        ),
        (
            "platform",
            "proxy.type=NodePort",
            'proxy.type is "NodePort" without TLS: passwords and requests would cross the network in clear. Name a Secret of '
            "type kubernetes.io/tls in proxy.tlsSecret, set proxy.type to ClusterIP behind a proxy of yours that ends TLS, or "
            "set proxy.allowPlainHTTP for a machine or network that you trust.",
        ),
        (
            "platform",
            "gateway.enabled=true,gateway.tlsSecret=t,proxy.tlsSecret=t",
            "gateway.enabled and proxy.tlsSecret are both set, but the Gateway ends TLS and speaks plain HTTP to the reverse "
            "proxy: leave proxy.tlsSecret empty.",
        ),
        (
            "platform",
            "gateway.enabled=true,gateway.allowPlainHTTP=true",
            "gateway.className is empty. Name one of `kubectl get gatewayclass`.",
        ),
        (
            "platform",
            "backup.enabled=true,backup.target=s3://phaseflow/backup",
            'backup.target is "s3://phaseflow/backup", but the keys for backups open the bucket phaseflow-backup alone: '
            "set backup.target to s3://phaseflow-backup, or name the bucket in global.store.backupBucket.",
        ),
        (
            "platform",
            "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,kubeflow-pipelines.store.prefix=other",
            'kubeflow-pipelines.store.prefix is "other", but its key opens the folder "kfp": set '
            "storage.s3.pipelinesPrefix to the same.",
        ),
        (
            "platform",
            "global.auth.oidc.enabled=true",
            "global.auth.oidc.enabled is true, but global.auth.oidc.issuer is empty: set it, as docs/how-to/one-login.md says.",
        ),
        (
            "platform",
            f"{LOGIN},proxy.enabled=false",
            "global.auth.oidc.enabled is true, but there is no reverse proxy to ask for the login: set proxy.enabled to true.",
        ),
        (
            "platform",
            f"{LOGIN},networkPolicy.enabled=false",
            "global.auth.oidc.enabled is true without network policies: every pod of the cluster could call the parts around "
            "the login. Set networkPolicy.enabled to true.",
        ),
        (
            "platform",
            LOGIN,
            "global.auth.oidc.roles.admin is empty: nobody could delete or configure. Name the administrators' group.",
        ),
        (
            "platform",
            f"{LOGIN},global.auth.oidc.roles.admin={{a\\,b}}",
            'global.auth.oidc.roles.admin names the group "a,b": only letters, digits, spaces and ._:/@+=- can be compared. '
            "Use the group's id, or rename it.",
        ),
        (
            "serving",
            "global.projects={titanik}",
            'global.projects names "titanik", which is no project of this chart. It has: '
            + ", ".join(discovery.names())
            + ". Correct the "
            "name, or run `make generate` after adding the project.",
        ),
        (
            "serving",
            "autoscaling.enabled=true",
            'autoscaling.enabled is true, but each replica of assistant requests "50m" of CPU: idle replicas would count as '
            "loaded. Set resources.requests.cpu to what a replica uses under load, such as 250m.",
        ),
        (
            "monitoring",
            "alertmanager.receivers[0].name=slack,alertmanager.receiver=people",
            'alertmanager.receiver is "people", which is not the name of a receiver. alertmanager.receivers has: slack. '
            "Correct the name, or add the receiver.",
        ),
        (
            "monitoring",
            "alertmanager.receivers[0].name=retrain",
            'alertmanager.receivers has a receiver called "retrain", which is the name of the chart\'s own: rename it.',
        ),
        (
            "kubeflow-pipelines",
            "mysql.enabled=false",
            "mysql.enabled is false: name your MySQL by mysql.host, and a Secret with its username and password by "
            "mysql.existingSecret.",
        ),
        (
            "kubeflow-pipelines",
            "store.endpoint=minio:9000",
            'store.endpoint is "minio:9000": give scheme and host alone, such as http://minio:9000.',
        ),
    ],
    ids=lambda value: value if "=" in value and len(value) < 50 else "",
)
def test_an_error_of_incompatible_values_says_what_to_do(helm: Helm, chart: str, setting: str, message: str) -> None:
    assert message in helm.template_error(chart, "--set", setting)


def test_a_release_name_is_at_most_30_characters(helm: Helm) -> None:
    for chart in set(charts.names()) - {"kubeflow-pipelines"}:  # its names are fixed
        longest = helm.run("template", "r" * 30, str(helm.charts / chart))
        assert longest.returncode == 0, longest.stderr
        for manifest in yaml.load_all(longest.stdout, Loader=yaml.CSafeLoader):
            # The name of a ConfigMap is neither a label nor a host name, so it may be longer.
            assert manifest is None or manifest["kind"] == "ConfigMap" or len(manifest["metadata"]["name"]) <= 63
        refused = helm.run("template", "r" * 31, str(helm.charts / chart))
        assert "has 31 characters: a Service's name may have 63" in refused.stderr
        assert "Take one of at most 30." in refused.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "serving.overrides.titanic.replicas=3",
        "global.pod.nodeSelector.disk=ssd",
        "airflow.config.AIRFLOW__CORE__PARALLELISM=8",
        "monitoring.prometheus.scrapeConfigs[0].job_name=mine",
        "proxy.resources.limits.cpu=1",
        "global.addresses.mlflow=http://mlflow:5000",
    ],
)
def test_maps_of_the_user_accept_any_key(helm: Helm, setting: str) -> None:
    assert helm.template("platform", "--set", setting).returncode == 0


def test_the_production_profile_needs_only_its_placeholders(helm: Helm, filled_in: Path) -> None:
    template = charts.FOLDER / "platform" / "values-production.yaml"
    assert "<host>" in template.read_text()
    assert PLACEHOLDER.search(filled_in.read_text()) is None
    completed = helm.template("platform", "--values", str(filled_in))
    assert completed.returncode == 0, completed.stderr
    # A container's command may contain a <word>, but no placeholder may reach the objects.
    for word in PLACEHOLDER.findall(template.read_text()):
        assert word not in completed.stdout


def test_the_generated_files_are_current() -> None:
    assert generated.stale(ROOT, generate.files(), whole=False) == [], "run `make generate`"


@pytest.mark.parametrize("name", charts.names())
def test_every_value_is_in_readme_and_schema(name: str) -> None:
    chart = charts.read(name)
    text, root = readme.text(chart), schema.schema(chart)
    assert chart.documented
    for value in chart.documented:
        assert f"| `{value.key}` |" in text
        node = root
        for key in value.path:
            node = node["properties"][key]
        assert node["description"] == value.text
        assert json.dumps(node["default"]) == json.dumps(value.default)


def chart_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: str) -> charts.Chart:
    monkeypatch.setattr(charts, "FOLDER", tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "Chart.yaml").write_text("{name: x, version: 1.0.0}")
    (tmp_path / "x" / "values.yaml").write_text(values)
    return charts.read("x")


def test_a_comment_has_the_description_and_the_hints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = chart_of(
        tmp_path,
        monkeypatch,
        """
part:
  # A word to whoever edits this.
  # -- How many,
  # and no more.
  # @minimum 2
  count: 3
  # -- A name.
  # @enum one, two
  name: one
# -- Open.
labels: {}
# -- Names.
# @items string
names: []
# -- Requests and limits.
resources: {limits: {memory: 1Gi}}
""",
    )
    assert [(value.key, value.text) for value in chart.documented] == [
        ("part.count", "How many, and no more."),
        ("part.name", "A name."),
        ("labels", "Open."),
        ("names", "Names."),
        ("resources", "Requests and limits."),
    ]
    properties = schema.schema(chart)["properties"]
    assert properties["part"]["properties"]["count"] == {
        "description": "How many, and no more.", "default": 3, "type": "integer", "minimum": 2,
    }  # fmt: skip
    assert properties["part"]["properties"]["name"]["enum"] == ["one", "two"]
    assert properties["part"]["additionalProperties"] is False
    assert "additionalProperties" not in properties["labels"]
    assert properties["names"]["items"] == {"type": "string"}
    assert properties["resources"]["additionalProperties"] is False


def test_a_value_without_a_description_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContractError) as error:
        chart_of(tmp_path, monkeypatch, "part:\n  # no dashes\n  count: 3\n")
    assert str(error.value) == "helm/x/values.yaml: part.count has no description. Write `# -- …` above it."


def test_an_unknown_hint_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContractError) as error:
        chart_of(tmp_path, monkeypatch, "# -- Many.\n# @maximum 3\ncount: 3\n")
    assert str(error.value) == "helm/x/values.yaml: @maximum is not a known hint. Use one of @enum, @minimum, @items."
