"""What runs, how it is, and where it is."""

from __future__ import annotations

import time
from typing import Any

import httpx
import psutil

from phaseflow.embedded import binaries, guardian, lifecycle, platform, processes, supervisor
from phaseflow.embedded.binaries import Binaries
from phaseflow.settings import USER, Settings

MIB = 1 << 20


def status(settings: Settings) -> dict[str, Any]:
    """`programs`, each with state, pid, memory, uptime and health, and `memory_mb` of all processes together.

    `orphans` are processes (name, pid) that run although no supervisor does: nothing restarts them.
    """
    states = supervisor.states(settings)
    states.pop(guardian.NAME, None)
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
    known = {program.name: program for program in platform.plan(settings, _found(settings)).programs}
    programs = []
    with httpx.Client(timeout=10, trust_env=False) as client:
        for name, state in states.items():
            up = state["statename"] in lifecycle.FINE
            programs.append(
                {
                    "name": name,
                    "what": known[name].what if name in known else "",
                    "state": state["statename"],
                    "pid": state["pid"],
                    "memory_mb": round(memory(_tree(state["pid"])) / MIB, 1) if state["pid"] else 0.0,
                    "uptime_seconds": round(time.time() - state["start"]) if up else 0,
                    "healthy": up and name in known and lifecycle.healthy(known[name].health, client, settings),
                    "url": known[name].health.url if name in known else "",
                    "log": str(supervisor.log(settings, name)),
                }
            )
    total = round(memory(supervisor.members(settings)) / MIB, 1)
    return {"running": True, "home": str(settings.home), "memory_mb": total, "programs": programs, "orphans": []}


def urls(settings: Settings, *, passwords: bool) -> list[dict[str, str]]:
    """Pages, users, and where each password is; the passwords themselves only if asked for."""
    pages = [
        ("portal", settings.portal_url, "", ""),
        ("Airflow", settings.airflow_url, "admin", "airflow_admin_password"),
        ("MLflow", settings.mlflow_url, "", ""),
        ("service", f"{settings.serving_url}/docs", "", ""),
        ("Prometheus", settings.prometheus_url, USER, "prometheus_password"),
        ("Alertmanager", settings.alertmanager_url, USER, "alertmanager_password"),
        ("pipelines (KFP's REST)", f"{settings.pipelines_url}/apis/v2beta1/runs", "", ""),
        ("monitor", f"{settings.monitor_url}/metrics", "", ""),
    ]
    if binaries.grafana(settings):
        pages.append(("Grafana", settings.grafana_url, "admin", "grafana_admin_password"))
    return [
        {
            "name": name,
            "url": url,
            "user": user,
            "password_file": str(settings.secrets / secret) if secret else "",
            "password": settings.secret(secret) if secret and passwords else "",
        }
        for name, url, user, secret in pages
    ]


def memory(processes: list[psutil.Process]) -> float:
    """Bytes of memory of the processes together: proportional shares where the system tells them, else resident sizes."""
    total = 0.0
    for process in processes:
        try:
            full = process.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
        except psutil.Error:
            continue  # gone meanwhile
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _found(settings: Settings) -> Binaries:
    """The plan's names and addresses do not depend on where the programs are."""
    found = binaries.find(settings)
    return Binaries(**{name: found.get(name, settings.home) for name in binaries.NAMES})
