"""Custom resource definitions on a real API server, which adds defaults to them and removes what it does not know."""

from __future__ import annotations

from cli.kubernetes import crds
from tests.cluster.conftest import Cluster


def test_definitions_are_applied_repeatedly_and_then_up_to_date(cluster: Cluster) -> None:
    manifests = crds.of_charts()
    names = [manifest["metadata"]["name"] for manifest in manifests]
    try:
        for _ in range(2):
            crds.apply(cluster.release, manifests)
        (finding,) = (finding for finding in crds.findings(cluster.release) if finding.subject != "argo workflows")
        assert (finding.ok, finding.observed) == (True, "up to date")
    finally:
        cluster.kubectl("delete", "customresourcedefinitions", *names, "--ignore-not-found")
