"""What the commands on projects do."""

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

from phaseflow.cli import show
from phaseflow.contract import Project
from phaseflow.embedded import components, rest
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings
from phaseflow.verdict import figure

Say = Callable[[str], None]
READ_SECONDS: Final = 60.0
POLL_SECONDS: Final = 1.0
SWAP_SECONDS: Final = 60.0
"""The service looks at the registry every few seconds."""


def run(settings: Settings, project: Project, say: Say) -> dict[str, Any]:
    """ETL, pipeline and promotion; gives each step's result and seconds.

    Raises PlatformError when a step fails, or the service does not swap to what was promoted.
    """
    name = f"run__{datetime.now(UTC):%Y%m%dT%H%M%S}"
    done: dict[str, Any] = {"project": project.name, "run": name, "promotion": None, "seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        for step in ("extract", "validate", "snapshot"):
            call = functools.partial(components.call, settings, project.family, "pipelines.etl", step)
            told = functools.partial(call, "--project", project.name, "--run", name, result=Path(folder) / step)
            done[step] = _timed(done, step, say, told)
        snapshot = done["snapshot"]["snapshot"]
        arguments = ["--project", project.name, "--snapshot", snapshot, "--run", name]
        done["verdict"] = _timed(
            done, "train", say, lambda: components.call(settings, project.family, "pipelines.run", *arguments)
        )
    verdict = done["verdict"]
    if verdict["passed"] or verdict["confirmed"]:
        version = str(verdict["confirmed"] or verdict["version"])
        arguments = ["--project", project.name, "--version", version]
        done["promotion"] = _timed(
            done,
            "promote",
            say,
            lambda: components.call(settings, "registry", "services.registry", "promote", *arguments),
        )
        _timed(done, "swap", say, lambda: _served(settings, project, str(done["promotion"]["version"])))
    return done


def _timed(done: dict[str, Any], step: str, say: Say, work: Callable[[], Any]) -> Any:
    say(f"{done['project']}: {step}")
    begun = time.monotonic()
    result = work()
    done["seconds"][step] = round(time.monotonic() - begun, 2)
    return result


def _served(settings: Settings, project: Project, version: str) -> None:
    deadline = time.monotonic() + SWAP_SECONDS
    while str((rest.served(settings, project.name) or {}).get("version")) != version:
        if time.monotonic() > deadline:
            raise PlatformError(
                f"The service does not serve version {version} of {project.name} after {SWAP_SECONDS:.0f} s",
                fix="Read `phaseflow logs serving`",
            )
        time.sleep(POLL_SECONDS)


def show_verdict(project: Project, verdict: dict[str, Any]) -> None:
    """Every check of the gate."""
    show.table(
        f"{project.title}: {verdict['candidate']}, version {verdict['version']}",
        ("", "check", "found", "allowed"),
        [
            (show.mark(check["passed"]), check["check"], figure(check["found"]), figure(check["allowed"]))
            for check in verdict["checks"]
        ],
    )
    if verdict.get("why"):
        show.console.print(str(verdict["why"]), style="dim", markup=False)


def trigger(settings: Settings, project: str, reason: str, *, wait: bool, say: Say) -> dict[str, Any]:
    """Start the DAG, and follow its tasks until it ends if `wait`."""
    airflow = rest.Airflow(settings)
    deadline = time.monotonic() + READ_SECONDS
    while True:
        try:
            airflow.dag(project)
            break
        except PlatformError:  # a new project's DAG is read within seconds
            if time.monotonic() > deadline:
                raise
            say(f"{project}: waits until Airflow has read its DAG")
            time.sleep(POLL_SECONDS)
    run_id = airflow.trigger(project, reason)
    return follow(airflow, project, run_id, say) if wait else state(airflow, project, run_id)


def follow(airflow: rest.Airflow, dag: str, run_id: str, say: Say) -> dict[str, Any]:
    """Wait for the end of a run."""
    said = ""
    while True:
        found = state(airflow, dag, run_id)
        if found["state"] in {"success", "failed"}:
            return found
        tasks = [t for t in found["tasks"] if t["state"]]
        text = f"{dag}: {tasks[-1]['task']} is {tasks[-1]['state']}" if tasks else f"{dag}: waits for the scheduler"
        if text != said:
            say(text)
            said = text
        time.sleep(POLL_SECONDS)


def state(airflow: rest.Airflow, dag: str, run_id: str) -> dict[str, Any]:
    """A run and its tasks, as plain data."""
    tasks = [
        {"task": t["task_id"], "state": t["state"], "seconds": t["duration"], "end": t["end_date"]}
        for t in airflow.tasks(dag, run_id)
    ]
    run = airflow.run(dag, run_id)
    return {"dag": dag, "run": run_id, "state": run["state"], "start": run["start_date"], "tasks": tasks}


def show_run(found: dict[str, Any], *, as_json: bool) -> None:
    """A run and its tasks."""
    if as_json:
        show.data(found)
        return
    show.console.print(f"{found['run']}: {found['state']}")
    if found["tasks"]:
        show.table(
            "",
            ("task", "state", "seconds"),
            [(t["task"], t["state"], "" if t["seconds"] is None else f"{t['seconds']:.1f}") for t in found["tasks"]],
        )


def traffic_arguments(*, rows: int, rate: float, seed: int, drift: bool, feedback: bool) -> list[str]:
    """The options of `python -m phaseflow.traffic`."""
    arguments = ["--rows", str(rows), "--rate", str(rate), "--seed", str(seed)]
    return arguments + ["--drift"] * drift + ["--feedback"] * feedback


def show_traffic(summary: dict[str, Any], *, as_json: bool) -> None:
    """What was sent and what came of it."""
    if as_json:
        show.data(summary)
        return
    served = ", ".join(f"version {version}: {count}" for version, count in summary["versions"].items())
    show.console.print(
        f"sent {summary['sent']}, failed {summary['failed']}, truths {summary['truths']}, "
        f"p50 {summary['p50_ms']} ms, p99 {summary['p99_ms']} ms ({served})"
    )
    for text, count in summary["errors"].items():
        show.errors.print(f"{count} x {text}", markup=False)


def show_moved(done: dict[str, Any], *, as_json: bool) -> None:
    """Which version is champion now."""
    if as_json:
        show.data(done)
        return
    before = f" (it was version {done['previous']})" if done.get("previous") else ""
    changed = "" if done.get("changed", True) else ", as before"
    show.console.print(f"{done['project']}: version {done['version']} is champion{changed}{before}")


def traffic(settings: Settings, project: Project, arguments: list[str], say: Say) -> dict[str, Any]:
    """Send, showing how it goes; Ctrl-C or SIGTERM ends it with what was sent so far."""
    last: dict[str, Any] = {}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with components.traffic(settings, project.family, project.name, *arguments) as process:
        assert process.stdout is not None  # noqa: S101  # a pipe was asked for
        while True:
            try:
                line = process.stdout.readline()
            except KeyboardInterrupt:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)  # the terminal told it too; a second word does no harm
                continue
            if not line:
                break
            last = json.loads(line)
            if "problem" in last:
                raise PlatformError(last["problem"], fix=last["fix"])
            say(f"{project.name}: sent {last['sent']}, failed {last['failed']}, p99 {last['p99_ms']} ms")
        if not last.get("done"):
            said = process.stderr.read().strip().splitlines() if process.stderr else []
            raise PlatformError(
                f"The traffic broke off: {said[-1] if said else 'it said nothing'}", fix="Look at `phaseflow status`"
            )
    return last
