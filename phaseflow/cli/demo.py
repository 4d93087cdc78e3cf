"""`phaseflow demo`: one real turn of the loop, each step seen by the public REST calls of the part that did it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from phaseflow.cli import show, work
from phaseflow.cli.stage import Stage
from phaseflow.contract import Project
from phaseflow.embedded import components, lifecycle, platform, report, rest, supervisor
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.reference import PREDICTIONS
from phaseflow.settings import Settings, from_environment
from phaseflow.store import write_atomic
from phaseflow.verdict import refused

HOME_SETTINGS: Final = {
    # Drift is judged over a minute instead of an hour: production's windows would make the demo last for hours.
    "PHASEFLOW_DRIFT_WINDOW_SECONDS": "60",
    # With fewer rows the index of drift is mostly noise, about (bins - 1) / rows.
    "PHASEFLOW_DRIFT_MINIMUM_ROWS": "150",
    "PHASEFLOW_DRIFT_COOLDOWN_SECONDS": "120",
    # Once it is set up the demo looks nothing up outside this machine: the mirror or the sample, unless told 0.
    "PHASEFLOW_OFFLINE": "1",
}
NORMAL_SECONDS: Final = 10.0
"""Of requests from the world as it was, or as long as a judgement of drift needs rows."""
RATE: Final = 40.0
"""Rows a second at most: by the time the alert has fired and Airflow takes its snapshot, the newest 300 truths on the side of
training, which become the next version's reference, are of the changed world."""
WAIT_SECONDS: Final = 240.0
"""For any one thing to happen but a training; none takes a quarter of it on two cores."""
TRAINING_SECONDS: Final = 1800.0
POLL_SECONDS: Final = 0.5
MEMORY_SECONDS: Final = 5.0
Seen = TypeVar("Seen")


def play(project: Project, *, quiet: bool) -> dict[str, Any]:
    """Play the project's story on a fresh home, and give what happened; `ok` says whether every step did.

    The platform is left up, also after a step that failed, so that its logs can be read.
    """
    _playable(project)  # before the home is moved aside
    settings = fresh()

    def start(say: Callable[[str], None]) -> str:
        with show.starting(quiet=True) as watch:
            platform.up(settings, watch, say)
        return f"{len(supervisor.states(settings))} processes"

    stage = Stage(
        settings=settings,
        start=start,
        log=lambda part: str(supervisor.log(settings, part)),
        tail=lambda part: supervisor.tail(supervisor.log(settings, part)),
        memory_mb=lambda: report.memory(supervisor.members(settings)) / report.MIB,
        again=f"`phaseflow demo {project.name}` again",
    )
    return on(stage, project, quiet=quiet)


def on(stage: Stage, project: Project, *, quiet: bool) -> dict[str, Any]:
    """Play the project's story there; raises PlatformError where it declares no changed world."""
    _playable(project)
    story = Story(stage, project, quiet=quiet)
    try:
        story.tell()
    except PhaseflowError as error:
        story.failed(error)
    return story.written()


def _playable(project: Project) -> None:
    if not project.drift.scenario:
        raise PlatformError(f"{project.name} declares no drifted world", fix="Set Drift.scenario in its project.py")


def fresh() -> Settings:
    """A home with nothing in it but the cache of source files; what was there is moved aside, and one demo's is kept."""
    os.environ.update({key: os.environ.get(key) or value for key, value in HOME_SETTINGS.items()})
    settings = from_environment()
    lifecycle.down(settings)
    entries = [p for p in settings.home.glob("*") if p.name != "previous" and not p.name.startswith("kept-")]
    if entries:
        demo = (settings.home / "demo.json").exists() or (settings.home / "environment").exists()
        aside = settings.home / ("previous" if demo else f"kept-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for path in entries:
            path.rename(aside / path.name)
        sources = aside / "store" / "sources"
        if sources.is_dir() and settings.store == str(settings.home / "store"):
            Path(settings.store).mkdir(parents=True)
            sources.rename(Path(settings.store) / "sources")
    text = "".join(f"{key}={os.environ[key]}\n" for key in HOME_SETTINGS)
    write_atomic(settings.home / "environment", text.encode())
    return settings


class World:
    """Traffic in the background, and what came of it so far."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.last: dict[str, Any] = {"sent": 0, "failed": 0}
        self._thread = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._thread.start()

    def _read(self, lines: Iterator[str]) -> None:
        with contextlib.suppress(ValueError):  # the pipe is closed, where the story ends early
            for line in lines:
                with contextlib.suppress(ValueError):  # half a line, where the process was ended by force
                    self.last = json.loads(line)

    def ended(self) -> dict[str, Any]:
        """The summary, after the process was told to stop."""
        self._thread.join(timeout=30)
        return self.last


class Story:
    """The steps, in order; each raises PlatformError when what it waits for does not happen."""

    def __init__(self, stage: Stage, project: Project, *, quiet: bool) -> None:
        self.stage, self.settings = stage, stage.settings
        self.project, self.name = project, project.name
        self.feedback = ["--feedback"] if project.schema.target else []
        self.rate = RATE
        self.quiet = quiet
        self.begun = time.monotonic()
        self.steps: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {}
        self.say: Callable[[str], None] = lambda _text: None
        self.read = "status"
        self.measured = 0.0

    def tell(self) -> None:
        """The whole turn."""
        self._start()
        self.airflow = rest.Airflow(self.settings)
        self.prometheus = rest.Prometheus(self.settings)
        self._first_training()
        self._normal_traffic()
        arguments = ["--rows", "0", "--rate", f"{self.rate:g}", "--seed", "2", "--drift", *self.feedback]
        with components.traffic(self.settings, self.project.family, self.name, *arguments) as process:
            assert process.stdout is not None  # noqa: S101  # a pipe was asked for
            world = World(iter(process.stdout.readline, ""))
            self._alert(world)
            self._retraining(world)
            self._swap(world)
            self._resolved(world)
            process.terminate()
            self.facts["traffic"] = world.ended()
        self._no_failure()
        self._report()

    @contextlib.contextmanager
    def step(self, title: str, log: str) -> Iterator[dict[str, Any]]:
        """Time a step; `log` is the process whose log explains a failure."""
        self.read = log
        entry: dict[str, Any] = {"step": title, "ok": False, "seconds": 0.0, "detail": ""}
        self.steps.append(entry)
        begun = time.monotonic()
        try:
            with show.working(title, quiet=self.quiet) as self.say:
                yield entry
            entry["ok"] = True
        finally:
            entry["seconds"] = round(time.monotonic() - begun, 1)
            if not self.quiet:
                detail = f"  [dim]{entry['detail']}[/]" if entry["ok"] else ""
                show.console.print(f"{show.mark(entry['ok'])} {title}  [dim]{entry['seconds']:.1f} s[/]{detail}")

    def until(
        self, what: str, look: Callable[[], Seen | None], world: World | None = None, seconds: float = WAIT_SECONDS
    ) -> Seen:
        """Look until there is something; raises PlatformError when there is nothing in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                seen = look()
            except PlatformError:
                seen = None
                if time.monotonic() > deadline:
                    raise
            if seen is not None:
                return seen
            if time.monotonic() > deadline:
                raise PlatformError(f"{what} did not happen within {seconds:.0f} s", fix=self._fix())
            if world:
                self.say(f"{what}: sent {world.last['sent']}, failed {world.last['failed']}")
            self._measure()
            time.sleep(POLL_SECONDS)

    def _fix(self) -> str:
        return f"Read {self.stage.log(self.read)}, then {self.stage.again}"

    def _measure(self) -> None:
        """Keep the most memory that all processes used together."""
        if time.monotonic() - self.measured >= MEMORY_SECONDS:
            self.measured = time.monotonic()
            self.facts["memory_mb"] = round(max(self.stage.memory_mb(), self.facts.get("memory_mb", 0.0)))

    def _start(self) -> None:
        with self.step("the platform starts", "supervisord") as entry:
            entry["detail"] = self.stage.start(self.say)

    def _first_training(self) -> None:
        with self.step(f"Airflow reads the DAG {self.name}", "airflow-dag-processor"):
            self.until("The DAG", lambda: self.airflow.dag(self.name))
        with self.step("Airflow runs it: ETL, Kubeflow pipeline, gate, promotion", "airflow-scheduler") as entry:
            run = self.airflow.trigger(self.name, "the demo's first training")
            done = work.follow(self.airflow, self.name, run, self.say)
            entry["detail"] = ", ".join(f"{t['task']} {t['seconds'] or 0:.0f} s" for t in done["tasks"])
            if done["state"] != "success":
                raise PlatformError(f"The run {run} ended {done['state']}", fix=self._fix())
        verdict = self._verdict(run)
        if not self.quiet:
            work.show_verdict(self.project, verdict)
        if not verdict["passed"]:
            raise PlatformError(f"The gate says no to the first model: {refused(verdict)}", fix=self._fix())
        with self.step("the service serves it", "serving") as entry:
            model = self.until("The first model", lambda: rest.served(self.settings, self.name))
            entry["detail"] = f"version {model['version']}, {model['candidate']}"
            self.facts |= {"first": model, "first_verdict": verdict}
            self.rate = self._rate(verdict["candidates"][verdict["candidate"]]["latency_ms"])

    def _rate(self, latency_ms: float) -> float:
        """Rows a second that keep half a core busy with answers, and are enough for a judgement in half a window."""
        window = self.settings.drift_window_seconds or self.project.drift.window_seconds
        return min(RATE, max(500 / latency_ms, 2 * self._minimum_rows() / window))

    def _verdict(self, run: str) -> dict[str, Any]:
        """What the pipeline's gate decided, as the task that ran it says."""
        return self.airflow.result(self.name, run, "train")

    def _psi(self, version: str) -> dict[str, float]:
        """Live drift of each feature, once the window holds enough rows."""
        labels = f'project="{self.name}",version="{version}"'
        rows = self.prometheus.query(f"phaseflow:window_rows{{{labels}}}")
        if not rows or rows[0][1] < self._minimum_rows():
            return {}
        found = self.prometheus.query(f"phaseflow:feature_psi{{{labels}}}")
        return {labels["feature"]: round(value, 3) for labels, value in found}

    def _minimum_rows(self) -> int:
        return self.settings.drift_minimum_rows or self.project.drift.minimum_rows

    def _firing(self) -> list[dict[str, Any]]:
        """Alerts that retraining answers."""
        return [
            alert
            for alert in self.prometheus.alerts(self.name)
            if alert["state"] == "firing" and alert["labels"].get("action") == "retrain"
        ]

    def _normal_traffic(self) -> None:
        with self.step("the world as it was: live drift is small", "serving") as entry:
            rows = max(round(self.rate * NORMAL_SECONDS), round(1.3 * self._minimum_rows()))
            arguments = ["--rows", str(rows), "--rate", f"{self.rate:g}", *self.feedback]
            summary = work.traffic(self.settings, self.project, arguments, self.say)
            psi = self.until("Live drift", lambda: self._psi(self.facts["first"]["version"]) or None)
            if max(psi.values()) >= self.project.drift.psi or self._firing():
                raise PlatformError(f"Live drift without a reason: {psi}", fix=self._fix())
            if summary["failed"]:
                raise PlatformError(f"{summary['failed']} requests failed: {summary['errors']}", fix=self._fix())
            entry["detail"] = f"{summary['sent']} requests, p99 {summary['p99_ms']} ms, PSI at most {max(psi.values())}"
            self.facts |= {"psi_before": psi, "normal_traffic": summary}

    def _alert(self, world: World) -> None:
        with self.step("the world drifts: an alert fires", "prometheus") as entry:
            alerts = self.until("The alert", lambda: self._firing() or None, world)
            psi = self.until("Live drift", lambda: self._psi(self.facts["first"]["version"]) or None, world)
            names = sorted({alert["labels"]["alertname"] for alert in alerts})
            worst = max(psi, key=lambda feature: psi[feature])
            entry["detail"] = f"{', '.join(names)}; PSI of {worst} is {psi[worst]}"
            self.facts |= {"psi_drifted": psi, "alerts": names}
            self.until("Alertmanager", lambda: rest.alertmanager_alerts(self.settings, self.name) or None, world)

    def _retraining(self, world: World) -> None:
        with self.step("the alert makes Airflow retrain", "monitor") as entry:

            def started() -> dict[str, Any] | None:
                runs = [run for run in self.airflow.runs(self.name) if run["dag_run_id"].startswith("retrain__")]
                return runs[-1] if runs else None

            run = self.until("The retraining", started, world)
            entry["detail"] = str(run["conf"].get("reason", ""))
            self.facts["retraining"] = {"run": run["dag_run_id"], "reason": entry["detail"]}
        with self.step("the new model is trained and judged on both worlds' holdout", "airflow-scheduler") as entry:

            def ended() -> dict[str, Any] | None:
                found = self.airflow.run(self.name, run["dag_run_id"])
                return found if found["state"] in {"success", "failed"} else None

            state = self.until("The end of the retraining", ended, world, TRAINING_SECONDS)["state"]
            if state != "success":
                raise PlatformError(f"The run {run['dag_run_id']} ended {state}", fix=self._fix())
            verdict = self._verdict(run["dag_run_id"])
            self.facts["second_verdict"] = verdict
            metric = self.project.primary.name
            champion, candidate = verdict["champion_metrics"][metric], verdict["metrics"][metric]
            entry["detail"] = f"{metric}: {champion:.3f} of version {verdict['champion']}, {candidate:.3f} of the new"
            if not verdict["passed"]:
                why = f"{refused(verdict)} ({entry['detail']})"
                raise PlatformError(f"The gate says no to the new model: {why}", fix=self._fix())

    def _swap(self, world: World) -> None:
        with self.step("the service swaps to it", "serving") as entry:
            version = str(self.facts["second_verdict"]["version"])

            def swapped() -> dict[str, Any] | None:
                model = rest.served(self.settings, self.name)
                return model if model and str(model["version"]) == version else None

            self.facts["second"] = self.until("The swap", swapped, world)
            entry["detail"] = (
                f"version {self.facts['first']['version']} to {version}, {self.facts['second']['candidate']}"
            )

    def _resolved(self, world: World) -> None:
        with self.step("the alert resolves", "prometheus") as entry:

            def calm() -> dict[str, Any] | None:
                """The served version, where nothing drifts from what it has learned; another retraining may have come first."""
                model = rest.served(self.settings, self.name)
                psi = self._psi(str(model["version"])) if model else {}
                drifted = [value for name, value in psi.items() if not re.fullmatch(PREDICTIONS, name)]
                held = rest.alertmanager_alerts(self.settings, self.name)
                if not model or not psi or max(drifted, default=0.0) >= self.project.drift.psi or self._firing():
                    return None
                return (
                    None if any(alert["labels"].get("action") == "retrain" for alert in held) else model | {"psi": psi}
                )

            found = self.until("The end of the alert", calm, world, TRAINING_SECONDS)
            psi = self.facts["psi_after"] = found.pop("psi")
            self.facts["last"] = found
            entry["detail"] = f"the same traffic, PSI at most {max(psi.values())} for version {found['version']}"

    def _no_failure(self) -> None:
        with self.step("no request failed on the way", "serving") as entry:
            traffic = self.facts["traffic"]
            if not traffic.get("done"):
                raise PlatformError("The traffic broke off", fix=self._fix())
            if traffic["failed"]:
                raise PlatformError(f"{traffic['failed']} requests failed: {traffic['errors']}", fix=self._fix())
            versions = {str(self.facts["first"]["version"]), str(self.facts["second"]["version"])}
            versions.add(str(self.facts["last"]["version"]))
            if not versions <= set(traffic["versions"]):
                raise PlatformError(
                    f"Versions {sorted(traffic['versions'])} answered, not {sorted(versions)}", fix=self._fix()
                )
            entry["detail"] = (
                f"{traffic['sent']} requests and {traffic['truths']} truths, p99 {traffic['p99_ms']} ms, "
                + ", ".join(f"{count} by version {version}" for version, count in traffic["versions"].items())
            )

    def _report(self) -> None:
        with self.step("Evidently's report of the last window", "monitor") as entry:
            run = self.airflow.trigger(f"{self.name}_monitor", "the demo's report")
            done = work.follow(self.airflow, f"{self.name}_monitor", run, self.say)
            if done["state"] != "success":
                raise PlatformError(f"The run {run} ended {done['state']}", fix=self._fix())
            window = self.airflow.result(f"{self.name}_monitor", run, "report")["window"]
            entry["detail"] = f"{self.settings.monitor_url}/reports/{self.name}/{window}/report.html"
            self.facts["report"] = entry["detail"]

    def failed(self, error: PhaseflowError) -> None:
        """Say which step did not happen, and what to read."""
        self.facts["error"] = {
            "step": self.steps[-1]["step"] if self.steps else "",
            "problem": error.problem,
            "fix": error.fix,
        }
        show.errors.print(f"\n[bold red]The demo stops at: {self.facts['error']['step']}[/]")
        show.error(error)
        show.errors.print(
            f"its log: {self.stage.log(self.read)}\n{self.stage.tail(self.read)}", markup=False, soft_wrap=True
        )

    def written(self) -> dict[str, Any]:
        """The story as data, kept in `<home>/demo.json`."""
        if "error" not in self.facts:
            self.measured = 0.0
            self._measure()
        story = {
            "ok": "error" not in self.facts,
            "project": self.name,
            "seconds": round(time.monotonic() - self.begun, 1),
            "steps": self.steps,
            **self.facts,
        }
        write_atomic(self.settings.home / "demo.json", json.dumps(story, indent=2, default=str).encode())
        return story


def summary(story: dict[str, Any], project: Project) -> None:
    """The table of what happened."""
    metric = project.primary.name
    verdict = story["second_verdict"]
    before, drifted, after = (max(story[name].values()) for name in ("psi_before", "psi_drifted", "psi_after"))
    show.console.print()
    show.table(
        f"What happened in {show.duration(story['seconds'])}",
        ("", "before", "drifted", "after"),
        [
            ("served version", story["first"]["version"], story["first"]["version"], story["last"]["version"]),
            ("algorithm", story["first"]["candidate"], story["first"]["candidate"], story["last"]["candidate"]),
            ("largest PSI", before, drifted, after),
            (
                f"{metric}, same holdout of both worlds",
                "",
                f"{verdict['champion_metrics'][metric]:.3f}",
                f"{verdict['metrics'][metric]:.3f}",
            ),
            (
                "failed requests",
                story["normal_traffic"]["failed"],
                story["traffic"]["failed"],
                story["traffic"]["failed"],
            ),
            ("alerts that retraining answers", "none", ", ".join(story["alerts"]), "none"),
        ],
    )
    show.console.print(f"\n[dim]all processes together: {story['memory_mb'] / 1024:.2f} GiB of memory at most[/]\n")


def next_steps(settings: Settings, project: Project) -> None:
    """What to try now."""
    show.console.print(
        f"\n[bold]Now you:[/] open {settings.airflow_url}, trigger [bold]{project.name}[/] with a reason, and look at the grid.\n"
        f"  bin/phaseflow traffic {project.name} --drift   the world goes on changing\n"
        f"  bin/phaseflow rollback {project.name}          the previous champion, in a second\n"
        "  bin/phaseflow new NAME --csv FILE --target COLUMN   your own data\n"
        "  make down   stops all of it"
    )
