"""The programs of the platform on one machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from cli.local import airflow, bentoml, binaries, grafana, lifecycle, mlflow, passwords, prometheus, supervisor
from cli.local.binaries import Binaries
from cli.local.lifecycle import silent
from cli.local.program import Health, Plan, Program
from cli.platforms import Watch
from phaseflow.settings import Settings


def plan(settings: Settings, executables: Binaries) -> Plan:
    """The plan of the whole platform."""
    home = binaries.grafana(settings)
    absent = {} if home else {"grafana": f"The portal shows the dashboards. {binaries.GRAFANA}"}
    return Plan(
        steps=(*airflow.steps(settings), *prometheus.steps(settings)),
        programs=(
            *_services(settings),
            *airflow.programs(settings),
            *prometheus.programs(settings, executables),
            *(grafana.programs(settings, home) if home else ()),
        ),
        absent=absent,
    )


def _services(settings: Settings) -> tuple[Program, ...]:
    """MLflow and the platform's own services."""

    def service(name: str, what: str, argv: tuple[str, ...], health: str = "/healthz") -> Program:
        return Program(
            name=name,
            what=what,
            argv=argv,
            health=Health(url=f"http://127.0.0.1:{settings.port(name)}{health}"),
            ports=(name,),
            adopts=name == "pipelines",  # its runs continue
            stop_seconds=25,  # time to finish pending requests
        )

    def module(group: str, name: str) -> tuple[str, ...]:
        return (str(settings.python(group)), "-m", name)

    return (
        Program(
            name="mlflow",
            what="stores runs and models",
            argv=tuple(mlflow.command(settings)),
            environment=mlflow.environment(),
            health=Health(url=f"{settings.mlflow_url}/health"),
            ports=("mlflow",),
        ),
        service("pipelines", "Kubeflow pipelines", module("pipelines", "pipelines.engine"), "/apis/v2beta1/healthz"),
        service("serving", "every project's champion", tuple(bentoml.command(settings))),
        service("monitor", "reports, retrain hook", module("monitor", "services.monitor")),
        Program(
            name="evidently",
            what="Evidently's pages",
            # Importing Evidently takes seconds of a processor, and nothing waits for these pages.
            argv=("nice", "-n", "10", *module("monitor", "services.monitor.ui")),
            health=Health(url=f"{settings.evidently_url}/healthz"),
            ports=("evidently",),
        ),
        service("portal", "the start page", module("portal", "services.portal")),
    )


def up(settings: Settings, watch: Watch = silent, say: Callable[[str], None] = print) -> Mapping[str, str]:
    """Start the whole platform; return the optional programs that are not installed, with how to install each."""
    full_plan = plan(settings, binaries.ensure(settings, say))
    lifecycle.up(settings, full_plan, watch)
    return full_plan.absent


def ensure(settings: Settings, names: tuple[str, ...], watch: Watch = silent) -> None:
    """Start the services `names`. If a platform is running and one of them is not healthy, start the whole platform."""
    states = supervisor.states(settings)
    programs = tuple(program for program in _services(settings) if program.name in names)
    if states:
        with httpx.Client(timeout=2, trust_env=False) as client:
            if all(lifecycle.healthy(program, states.get(program.name, {}), client, settings) for program in programs):
                return
        up(settings, watch)
    else:
        lifecycle.up(settings, Plan(steps=(), programs=programs), watch)


def refresh(settings: Settings) -> None:
    """Load the rules and dashboards of new projects into a running platform."""
    executables = Binaries(**binaries.find(settings))
    passwords.ensure(settings)
    for step in prometheus.steps(settings):
        lifecycle.run_step(settings, step)
    for program in prometheus.programs(settings, executables):
        lifecycle.reload(settings, program)
