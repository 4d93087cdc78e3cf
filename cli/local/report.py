"""Status and URLs of the platform on one machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil

from cli import show
from cli.local import binaries, lifecycle, platform, processes, supervisor
from cli.local.binaries import Binaries
from cli.local.program import Program
from cli.platforms import Page
from phaseflow.settings import USER, Settings

MIB = 1 << 20


def status(settings: Settings) -> dict[str, Any]:
    """Status of the platform: `programs` with state, PID, memory, uptime and health, and `memory_mb` of all processes
    together.

    `orphans` are processes (name, PID) that run without a supervisor, so nothing restarts them.
    """
    states = supervisor.states(settings)
    states.pop(supervisor.GUARDIAN, None)
    if not states:
        orphans = processes.members(settings.home)
        return {
            "running": False,
            "home": str(settings.home),
            "memory_mb": round(memory(list(orphans)) / MIB, 1),
            "programs": [],
            "orphans": sorted(
                ({"name": name, "pid": process.pid} for process, name in orphans.items()),
                key=lambda orphan: (orphan["name"], orphan["pid"]),
            ),
        }
    programs_by_name = {program.name: program for program in platform.plan(settings, _executables(settings)).programs}
    health = _health(settings, programs_by_name, states)
    programs = [
        {
            "name": name,
            "what": programs_by_name[name].what if name in programs_by_name else "",
            "state": state["statename"],
            "pid": state["pid"],
            "memory_mb": round(memory(_tree(state["pid"])) / MIB, 1) if state["pid"] else 0.0,
            "uptime_seconds": round(time.time() - state["start"]) if state["statename"] in lifecycle.FINE else 0,
            "healthy": health.get(name, False),
            "url": programs_by_name[name].health.url if name in programs_by_name else "",
            "log": str(supervisor.log(settings, name)),
        }
        for name, state in states.items()
    ]
    total = round(memory(supervisor.members(settings)) / MIB, 1)
    return {"running": True, "home": str(settings.home), "memory_mb": total, "programs": programs, "orphans": []}


def _health(
    settings: Settings, programs: Mapping[str, Program], states: Mapping[str, Mapping[str, Any]]
) -> dict[str, bool]:
    """Whether each program with a state is healthy. The checks run concurrently: several programs may hang at once."""
    names = [name for name in states if name in programs]
    with httpx.Client(timeout=10, trust_env=False) as client, ThreadPoolExecutor(max(len(names), 1)) as pool:
        checks = pool.map(lambda name: lifecycle.healthy(programs[name], states[name], client, settings), names)
        return dict(zip(names, checks, strict=True))


def show_status(status: Mapping[str, Any]) -> None:
    """Print a table of the processes, or those that run without a supervisor."""
    orphans, programs = status["orphans"], status["programs"]
    if orphans:
        pids: dict[str, list[str]] = {}
        for orphan in orphans:
            pids.setdefault(orphan["name"], []).append(str(orphan["pid"]))
        show.console.print(
            f"{show.mark(False)} supervisord is gone, and {len(orphans)} processes run without it: "
            + "; ".join(f"{name} ({', '.join(name_pids)})" for name, name_pids in pids.items())
            + ". Nothing restarts them. `phaseflow up` ends them and starts everything again.",
            soft_wrap=True,
        )
    elif not programs:
        show.console.print("nothing runs; start it with `phaseflow up`")
    else:
        show.table(
            "",
            ("", "process", "state", "pid", "memory", "uptime", "purpose"),
            [
                (
                    show.mark(program["healthy"]),
                    program["name"],
                    program["state"].lower(),
                    program["pid"] or "",
                    f"{program['memory_mb']:.0f} MB",
                    show.duration(program["uptime_seconds"]),
                    f"[dim]{program['what']}[/]",
                )
                for program in programs
            ],
        )
        show.console.print(f"[dim]{status['memory_mb'] / 1024:.2f} GiB in total[/]")


def pages(settings: Settings, *, passwords: bool) -> list[Page]:
    """Pages with their users and password files. Passwords are included only if `passwords` is set."""
    entries = [
        ("portal", settings.portal_url, "", ""),
        ("Airflow", settings.airflow_url, "admin", "airflow_admin_password"),
        ("MLflow", settings.mlflow_url, "", ""),
        ("service", f"{settings.serving_url}/docs", "", ""),
        ("Prometheus", settings.prometheus_url, USER, "prometheus_password"),
        ("Alertmanager", settings.alertmanager_url, USER, "alertmanager_password"),
        ("pipelines (KFP's REST)", f"{settings.pipelines_url}/apis/v2beta1/runs", "", ""),
        ("monitor", f"{settings.monitor_url}/metrics", "", ""),
        ("Evidently", settings.evidently_url, "", ""),
    ]
    home = binaries.grafana(settings)
    if home:
        entries.append(("Grafana", settings.grafana_url, "admin", "grafana_admin_password"))
    rows = [
        Page(
            name=name,
            url=url,
            user=user,
            password_file=str(settings.secrets / secret) if secret else "",
            password=settings.secret(secret) if secret and passwords else "",
        )
        for name, url, user, secret in entries
    ]
    return rows if home else [*rows, Page(name="Grafana", url="", hint=binaries.GRAFANA)]


def memory(processes: list[psutil.Process]) -> float:
    """Memory of the processes in bytes: proportional set sizes if the system reports them, else resident ones."""
    total = 0.0
    for process in processes:
        try:
            full = process.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
        except psutil.Error:
            continue  # it has ended
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _executables(settings: Settings) -> Binaries:
    """Paths for a plan of which only names and URLs are used. Missing programs get the home as their path."""
    paths = binaries.find(settings)
    return Binaries(**{name: paths.get(name, settings.home) for name in binaries.NAMES})
