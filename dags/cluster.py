"""Adds the settings of a cluster to a compiled pipeline, and reads the logs of its pods."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import yaml

from phaseflow.settings import Settings

PASSED: Final = ("PHASEFLOW_", "AWS_")
"""Prefixes of environment variables that the steps inherit: addresses, never secrets, which are files."""
OWN: Final = frozenset({"PHASEFLOW_HOME", "PHASEFLOW_HOST", "PHASEFLOW_KFP_NAMESPACE", "PHASEFLOW_S3_SECRET"})
RUN_LABEL: Final = "pipeline/runid"


def with_cluster_settings(compiled: bytes, settings: Settings, environment: str) -> bytes:
    """The pipeline with the environment's image, this namespace's addresses and the object store's key on each step."""
    documents = list(yaml.safe_load_all(compiled))
    spec, platform = documents[0], documents[1] if len(documents) > 1 else {}
    variables = [
        {"name": name, "value": value}
        for name, value in sorted(os.environ.items())
        if name.startswith(PASSED) and name not in OWN
    ]
    on_kubernetes = platform.setdefault("platforms", {}).setdefault("kubernetes", {}).setdefault("deploymentSpec", {})
    mounted = on_kubernetes.setdefault("executors", {})
    secret, path = os.environ.get("PHASEFLOW_S3_SECRET"), os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "")
    for name, executor in spec["deploymentSpec"]["executors"].items():
        if "container" not in executor:
            continue
        executor["container"]["image"] = settings.images.format(group=environment)
        executor["container"]["env"] = variables
        if secret and path:
            volumes = mounted.setdefault(name, {}).setdefault("secretAsVolume", [])
            volumes.append({"secretName": secret, "mountPath": os.path.dirname(path)})  # noqa: PTH120  # a pod's path
    text: str = yaml.safe_dump_all([spec, platform], sort_keys=True)
    return text.encode()


def failed_logs(run_id: str, lines: int) -> Iterator[str]:
    """Yield the last lines of the logs of the run's failed pods, because KFP's API has no logs.

    Yields nothing if the pods no longer exist, and the reason if this pod may not read them.
    """
    namespace = os.environ.get("PHASEFLOW_KFP_NAMESPACE")
    if not namespace:
        return
    # The client is only installed in Airflow's image.
    from kubernetes import client, config  # noqa: PLC0415

    config.load_incluster_config()
    core = client.CoreV1Api()
    try:
        pods: list[Any] = core.list_namespaced_pod(namespace, label_selector=f"{RUN_LABEL}={run_id}").items
        for pod in pods:
            if pod.status.phase != "Failed":
                continue
            yield f"--- {pod.metadata.name}"
            # Version 36 of the client returns the `repr` of the bytes as the text, so they are decoded here.
            response = core.read_namespaced_pod_log(
                pod.metadata.name, namespace, container="main", tail_lines=lines, _preload_content=False
            )
            yield from response.data.decode(errors="replace").splitlines()
    except client.ApiException as error:
        yield f"The logs of the run's pods can't be read: {error.reason}"
