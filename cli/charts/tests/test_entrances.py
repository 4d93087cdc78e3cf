"""Tests of what leads to the reverse proxy from outside: Service, Gateway and Ingress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cli.charts.tests.rendering import Helm, Object, name, of_kind


def manifests(helm: Helm, tmp_path: Path, values: Any) -> dict[str, Object]:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"  # renders are cached by their arguments
    path.write_text(yaml.safe_dump(values))
    return {name(manifest): manifest for manifest in helm.objects("platform", "--values", str(path))}


def test_a_cloud_is_told_by_labels_and_annotations(helm: Helm, tmp_path: Path) -> None:
    labelled = {"labels": {"team": "ml"}, "annotations": {"example.com/internal": "true"}}
    tls = {"enabled": True, "tlsSecret": "t", "host": "ml.example.com", **labelled}
    values = {"proxy": {"service": labelled}, "gateway": {"className": "c", **tls}, "ingress": tls}
    objects = manifests(helm, tmp_path, values)
    for key in ("Service p-proxy", "Gateway p", "Ingress p"):
        metadata = objects[key]["metadata"]
        assert metadata["labels"]["team"] == "ml", key
        assert metadata["labels"]["app.kubernetes.io/component"] == "proxy", key
        assert metadata["annotations"] == labelled["annotations"], key
    assert "annotations" not in manifests(helm, tmp_path, {})["Service p-proxy"]["metadata"]


def test_a_gateway_redirects_plain_http(helm: Helm, tmp_path: Path) -> None:
    gateway = {"enabled": True, "className": "c", "host": "ml.example.com", "tlsSecret": "t"}
    objects = manifests(helm, tmp_path, {"gateway": gateway})
    listeners = {listener["name"]: listener for listener in objects["Gateway p"]["spec"]["listeners"]}
    assert listeners["https"]["tls"] == {"certificateRefs": [{"name": "t"}]}
    assert listeners["http"]["port"] == 80
    assert objects["HTTPRoute p"]["spec"]["parentRefs"] == [{"name": "p", "sectionName": "https"}]
    redirect = objects["HTTPRoute p-redirect"]["spec"]
    assert redirect["parentRefs"] == [{"name": "p", "sectionName": "http"}]
    assert redirect["rules"] == [
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]}
    ]
    objects = manifests(helm, tmp_path, {"gateway": {**gateway, "redirect": False}})
    assert [listener["name"] for listener in objects["Gateway p"]["spec"]["listeners"]] == ["https"]
    assert "HTTPRoute p-redirect" not in objects
    plain = manifests(helm, tmp_path, {"gateway": {"enabled": True, "className": "c", "allowPlainHTTP": True}})
    assert plain["HTTPRoute p"]["spec"]["parentRefs"] == [{"name": "p", "sectionName": "http"}]
    assert "HTTPRoute p-redirect" not in plain


def test_a_certificate_may_be_named_by_an_annotation(helm: Helm, tmp_path: Path) -> None:
    certificate = {"enabled": True, "tlsByAnnotation": True, "annotations": {"networking.gke.io/certmap": "ml"}}
    objects = manifests(helm, tmp_path, {"gateway": {"className": "c", **certificate}, "ingress": certificate})
    https = objects["Gateway p"]["spec"]["listeners"][0]
    assert (https["protocol"], "tls" in https) == ("HTTPS", False)
    assert "tls" not in objects["Ingress p"]["spec"]


def test_gke_asks_for_the_health_of_the_proxy(helm: Helm, tmp_path: Path) -> None:
    gateway = {"enabled": True, "className": "gke-l7-global-external-managed", "tlsSecret": "t"}
    assert "HealthCheckPolicy p-proxy" not in manifests(helm, tmp_path, {"gateway": gateway})
    objects = manifests(helm, tmp_path, {"gateway": {**gateway, "gkeHealthCheck": True}})
    spec = objects["HealthCheckPolicy p-proxy"]["spec"]
    assert spec["default"]["config"]["httpHealthCheck"] == {"port": 8080, "requestPath": "/proxy/healthz"}
    assert f"{spec['targetRef']['kind']} {spec['targetRef']['name']}" in objects


def test_an_ingress_leads_to_the_proxy(helm: Helm, tmp_path: Path) -> None:
    ingress = {"enabled": True, "className": "nginx", "host": "ml.example.com", "tlsSecret": "t"}
    spec = manifests(helm, tmp_path, {"ingress": ingress})["Ingress p"]["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"secretName": "t", "hosts": ["ml.example.com"]}]
    (rule,) = spec["rules"]
    assert rule["host"] == "ml.example.com"
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    assert path["backend"]["service"] == {"name": "p-proxy", "port": {"name": "http"}}


def test_a_gateway_routes_to_the_proxy(helm: Helm) -> None:
    values = (
        "gateway.enabled=true,gateway.className=c,gateway.host=ml.example.com,gateway.tlsSecret=t,proxy.type=ClusterIP"
    )
    objects = helm.objects("platform", "--set", values)
    (route,) = [manifest for manifest in objects if name(manifest) == "HTTPRoute p"]
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    service = next(
        manifest for manifest in of_kind(objects, "Service") if manifest["metadata"]["name"] == backend["name"]
    )
    assert backend["port"] in [port["port"] for port in service["spec"]["ports"]]
    assert service["spec"]["type"] == "ClusterIP"
    assert "nodePort" not in service["spec"]["ports"][0]
