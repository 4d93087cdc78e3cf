"""Runs a component's module in a pod of its image, as `dags.modules` does on one machine. Only Airflow's image has the provider."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes import client as k8s

from dags.modules import message
from phaseflow.errors import PERMANENT
from phaseflow.settings import from_environment

TEMPLATES: Final[Mapping[str, Path]] = {
    "steps": Path("/etc/phaseflow/pod.yaml"),
    "maintenance": Path("/etc/phaseflow/maintenance.yaml"),
}
"""The chart's pod templates by part: namespace, service account, security, environment and secrets. The store's key differs."""
RESULT: Final = "/dev/termination-log"
"""Kubernetes stores up to 4 KiB of this file in the status of the ended container: enough for a result, without a sidecar."""
START_SECONDS: Final = 300
"""Time for scheduling the pod and pulling the image."""


class PodModuleOperator(KubernetesPodOperator):
    """Runs `python -m <module> <arguments>` in a pod of the image `group`; the result is its termination message.

    Raises the same exceptions as `ModuleOperator`, with the container's last line of output.
    """

    def __init__(
        self,
        *,
        group: str,
        module: str,
        arguments: Sequence[str],
        part: str = "steps",
        memory_mb: int = 1024,
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            image=from_environment().images.format(group=group),
            cmds=["python", "-m", module],
            arguments=[*arguments, "--result", RESULT],
            pod_template_file=str(TEMPLATES[part]),
            labels=dict(labels or {}),  # beside the template's, by which the network policies know the part
            container_resources=k8s.V1ResourceRequirements(
                requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": f"{memory_mb}Mi"}
            ),
            in_cluster=True,
            get_logs=True,
            log_events_on_failure=True,
            on_finish_action="delete_pod",
            startup_timeout_seconds=START_SECONDS,
            termination_message_policy="FallbackToLogsOnError",
            **kwargs,
        )
        self.module = module

    def execute(self, context: Context) -> Any:
        """Run the pod, and return its result."""
        try:
            super().execute(context)
        except AirflowException as error:
            ended = self._ended()
            if ended is None:  # the container never started; Kubernetes' events in the log above tell why
                raise
            last = (ended.message or "").strip().rsplit("\n", 1)[-1] or ended.reason or "it printed nothing"
            if ended.exit_code == PERMANENT:
                raise AirflowFailException(message(last)) from error
            raise AirflowException(f"{self.module} exited with {ended.exit_code}: {message(last)}") from error
        ended = self._ended()
        if ended is None or not ended.message:
            raise AirflowException(f"{self.module} exited without a result. Check its log above, and run it again.")
        result = json.loads(ended.message)
        # The result is pushed here: for the return value of `execute`, the provider would add a sidecar to each pod.
        context["ti"].xcom_push(key=BaseXCom.XCOM_RETURN_KEY, value=result)
        return result

    def _ended(self) -> Any:
        """The terminated state of the container; None if it has not terminated."""
        status = self.remote_pod.status if self.remote_pod is not None else None
        states = [
            container.state for container in (status and status.container_statuses) or () if container.name == "base"
        ]
        return states[0].terminated if states and states[0] else None
