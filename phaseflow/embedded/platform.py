"""The platform of one machine: which programs it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from phaseflow.embedded import airflow, binaries, grafana, lifecycle, mlflow, passwords, prometheus, supervisor
from phaseflow.embedded.binaries import Binaries
from phaseflow.embedded.lifecycle import Watch, silent
from phaseflow.embedded.program import Health, Plan, Program
from phaseflow.settings import Settings


def plan(settings: Settings, found: Binaries) -> Plan:
    """Everything."""
    home = binaries.grafana(settings)
    absent = {} if home else {"grafana": f"The portal draws the dashboards. {binaries.GRAFANA}"}
    return Plan(
        steps=(*airflow.steps(settings), *prometheus.steps(settings)),
        programs=(
            *_services(settings),
            *airflow.programs(settings),
            *prometheus.programs(settings, found),
            *(grafana.programs(settings, home) if home else ()),
        ),
        absent=absent,
    )


def _services(settings: Settings) -> tuple[Program, ...]:
    """The platform's own processes, and MLflow."""

    def service(name: str, group: str, module: str, what: str, health: str) -> Program:
        return Program(
            name=name,
            what=what,
            argv=(str(settings.python(group)), "-m", module),
            health=Health(url=f"http://127.0.0.1:{settings.port(name)}{health}"),
            ports=(name,),
            stop_seconds=25,  # requests that are being answered are finished
        )

    return (
        Program(
            name="mlflow",
            what="keeps runs and models",
            argv=tuple(mlflow.command(settings)),
            environment=mlflow.environment(),
            health=Health(url=f"{settings.mlflow_url}/health"),
            ports=("mlflow",),
        ),
        service("pipelines", "pipelines", "pipelines.engine", "Kubeflow pipelines", "/apis/v2beta1/healthz"),
        service("serving", "serving", "services.serving", "every project's champion", "/healthz"),
        service("monitor", "monitor", "services.monitor", "reports, retrain hook", "/healthz"),
        service("portal", "portal", "services.portal", "the front door", "/healthz"),
    )


def up(settings: Settings, watch: Watch = silent, say: Callable[[str], None] = print) -> Mapping[str, str]:
    """Start everything; gives the optional programs that are absent, and how to get each."""
    whole = plan(settings, binaries.ensure(settings, say))
    lifecycle.up(settings, whole, watch)
    return whole.absent


def ensure(settings: Settings, names: tuple[str, ...], watch: Watch = silent) -> None:
    """Start what of `names` does not run; a platform that runs as a whole is left as it is."""
    states = supervisor.states(settings)
    programs = tuple(program for program in _services(settings) if program.name in names)
    if states:
        with httpx.Client(timeout=2, trust_env=False) as client:
            if all(
                name in states and lifecycle.healthy(p.health, client, settings) for p in programs for name in [p.name]
            ):
                return
        up(settings, watch)
    else:
        lifecycle.up(settings, Plan(steps=(), programs=programs), watch)


def refresh(settings: Settings) -> None:
    """Make a running platform know projects that are new: their rules and dashboards."""
    found = Binaries(**binaries.find(settings))
    passwords.ensure(settings)
    for step in prometheus.steps(settings):
        lifecycle.run_step(settings, step)
    for program in prometheus.programs(settings, found):
        lifecycle.reload(settings, program)
