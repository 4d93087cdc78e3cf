"""Implementation of the commands on projects."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cli import show
from cli.local import components
from cli.platforms import Say
from phaseflow.clients import airflow, rest, serving
from phaseflow.contract import Project
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings
from phaseflow.verdict import figure

READ_SECONDS: Final = 60.0
POLL_SECONDS: Final = 1.0
SWAP_SECONDS: Final = 60.0
"""The service polls the registry every few seconds."""


def run(settings: Settings, project: Project, say: Say) -> dict[str, Any]:
    """Run ETL, pipeline and promotion; return the result and the duration of each step.

    Raises PlatformError if a step fails, or if the service does not swap to the promoted version.
    """
    name = f"run__{datetime.now(UTC):%Y%m%dT%H%M%S}"
    result: dict[str, Any] = {"project": project.name, "run": name, "promotion": None, "seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        for step in ("extract", "validate", "snapshot"):
            call = functools.partial(components.call, settings, project.environment, "pipelines.etl", step)
            command = functools.partial(call, "--project", project.name, "--run", name, result=Path(folder) / step)
            result[step] = _time_step(result, step, say, command)
        snapshot = result["snapshot"]["snapshot"]
        arguments = ["--project", project.name, "--snapshot", snapshot, "--run", name]
        result["verdict"] = _time_step(
            result, "train", say, lambda: components.call(settings, project.environment, "pipelines.run", *arguments)
        )
    verdict = result["verdict"]
    if verdict["passed"] or verdict["confirmed"]:
        version = str(verdict["confirmed"] or verdict["version"])
        arguments = ["--project", project.name, "--version", version]
        result["promotion"] = _time_step(
            result,
            "promote",
            say,
            lambda: components.call(settings, "registry", "services.registry", "promote", *arguments),
        )
        _time_step(
            result, "swap", say, lambda: _wait_until_served(settings, project, str(result["promotion"]["version"]))
        )
    return result


def _time_step(result: dict[str, Any], step: str, say: Say, function: Callable[[], Any]) -> Any:
    say(f"{result['project']}: {step}")
    start = time.monotonic()
    value = function()
    result["seconds"][step] = round(time.monotonic() - start, 2)
    return value


def _wait_until_served(settings: Settings, project: Project, version: str) -> None:
    deadline = time.monotonic() + SWAP_SECONDS
    while str((serving.model(settings, project.name) or {}).get("version")) != version:
        if time.monotonic() > deadline:
            raise PlatformError(
                f"The service does not serve version {version} of {project.name} after {SWAP_SECONDS:.0f} s",
                fix="Read `phaseflow logs serving`",
            )
        time.sleep(POLL_SECONDS)


def show_verdict(project: Project, verdict: dict[str, Any]) -> None:
    """Print every check of the gate."""
    show.table(
        f"{project.title}: {verdict['candidate']}, version {verdict['version']}",
        ("", "check", "result", "required"),
        [
            (show.mark(check["passed"]), check["check"], figure(check["observed"]), figure(check["required"]))
            for check in verdict["checks"]
        ],
    )
    if verdict.get("why"):
        show.console.print(str(verdict["why"]), style="dim", markup=False)


def trigger(settings: Settings, project: str, reason: str, *, wait: bool, say: Say) -> dict[str, Any]:
    """Start the DAG, and wait until the run ends if `wait` is set. Returns the run."""
    client = airflow.client(settings)
    deadline = time.monotonic() + READ_SECONDS
    while True:
        try:
            client.send(airflow.dag(project))
            break
        except PlatformError:  # Airflow reads a new project's DAG within seconds
            if time.monotonic() > deadline:
                raise
            say(f"{project}: waiting until Airflow has read its DAG")
            time.sleep(POLL_SECONDS)
    run_id = client.send(airflow.trigger(project, reason))
    return follow(client, project, run_id, say) if wait else state(client, project, run_id)


def follow(client: rest.Client, dag: str, run_id: str, say: Say) -> dict[str, Any]:
    """Wait for the end of a run, and return it."""
    last_text = ""
    while True:
        dag_run = state(client, dag, run_id)
        if dag_run["state"] in {"success", "failed"}:
            return dag_run
        tasks = [t for t in dag_run["tasks"] if t["state"]]
        text = f"{dag}: {tasks[-1]['task']} is {tasks[-1]['state']}" if tasks else f"{dag}: waiting for the scheduler"
        if text != last_text:
            say(text)
            last_text = text
        time.sleep(POLL_SECONDS)


def state(client: rest.Client, dag: str, run_id: str) -> dict[str, Any]:
    """A run and its tasks as JSON-serializable data."""
    tasks = [
        {"task": t["task_id"], "state": t["state"], "seconds": t["duration"], "end": t["end_date"]}
        for t in client.send(airflow.tasks(dag, run_id))
    ]
    run = client.send(airflow.run(dag, run_id))
    return {"dag": dag, "run": run_id, "state": run["state"], "start": run["start_date"], "tasks": tasks}


def show_run(dag_run: dict[str, Any], *, as_json: bool) -> None:
    """Print a run and its tasks."""
    if as_json:
        show.data(dag_run)
        return
    show.console.print(f"{dag_run['run']}: {dag_run['state']}")
    if dag_run["tasks"]:
        show.table(
            "",
            ("task", "state", "seconds"),
            [(t["task"], t["state"], "" if t["seconds"] is None else f"{t['seconds']:.1f}") for t in dag_run["tasks"]],
        )


def traffic_arguments(*, rows: int, rate: float, seed: int, drift: bool, feedback: bool) -> list[str]:
    """Command-line options of `python -m cli.traffic`."""
    arguments = ["--rows", str(rows), "--rate", str(rate), "--seed", str(seed)]
    return arguments + ["--drift"] * drift + ["--feedback"] * feedback


def show_traffic(summary: dict[str, Any], *, as_json: bool) -> None:
    """Print the counts, latencies and errors of the traffic."""
    if as_json:
        show.data(summary)
        return
    versions = ", ".join(f"version {version}: {count}" for version, count in summary["versions"].items())
    show.console.print(
        f"sent {summary['sent']}, failed {summary['failed']}, labels {summary['labels']}, "
        f"p50 {summary['p50_ms']} ms, p99 {summary['p99_ms']} ms ({versions})"
    )
    for text, count in summary["errors"].items():
        show.errors.print(f"{count} x {text}", markup=False)


def show_champion(result: dict[str, Any], *, as_json: bool) -> None:
    """Print which version is the champion now."""
    if as_json:
        show.data(result)
        return
    previous = f" (previously version {result['previous']})" if result.get("previous") else ""
    suffix = "" if result.get("changed", True) else ", unchanged"
    show.console.print(f"{result['project']}: version {result['version']} is the champion{suffix}{previous}")


def traffic(settings: Settings, project: Project, arguments: list[str], say: Say) -> dict[str, Any]:
    """Send traffic and show its progress. Ctrl-C or SIGTERM ends it with the summary of the rows sent so far."""
    summary: dict[str, Any] = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with components.traffic(settings, project.environment, project.name, *arguments) as process:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        while True:
            try:
                line = process.stdout.readline()
            except KeyboardInterrupt:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)  # harmless if the terminal has already signalled it
                continue
            if not line:
                break
            summary = json.loads(line)
            if "problem" in summary:
                raise PlatformError(summary["problem"], fix=summary["fix"])
            say(f"{project.name}: sent {summary['sent']}, failed {summary['failed']}, p99 {summary['p99_ms']} ms")
        if not summary.get("done"):
            error_lines = process.stderr.read().strip().splitlines() if process.stderr else []
            raise PlatformError(
                f"The traffic ended early: {error_lines[-1] if error_lines else 'no error output'}",
                fix="Run `phaseflow status`",
            )
    return summary
