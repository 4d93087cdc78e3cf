"""The steps of the demo, in order."""

from __future__ import annotations

from typing import Any

from cli import work
from cli.demo.probes import Probes, TrafficMonitor
from cli.demo.recording import Recording
from cli.demo.settings import NORMAL_SECONDS, RATE, RETRAININGS, TRAINING_SECONDS, WAIT_SECONDS
from cli.local import components
from cli.platforms import Platform
from phaseflow.clients import airflow, prometheus
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import Settings
from phaseflow.verdict import refused


def run(platform: Platform, project: Project, *, quiet: bool) -> dict[str, Any]:
    """Run the demo on the platform, and return its results; `ok` is true if every step succeeded.

    The platform keeps running, also after a failed step, so that its logs can be read. Raises PlatformError if the
    project declares no drift scenario, before anything is changed.
    """
    if not project.drift.scenario:
        raise PlatformError(f"{project.name} declares no drift scenario", fix="Set Drift.scenario in its project.py")
    settings = platform.prepare_demo(project)
    recording = Recording(platform, project, quiet=quiet)
    try:
        DemoRun(platform, settings, project, recording).run()
    except PhaseflowError as error:
        recording.record_failure(error)
    return recording.save(settings)


class DemoRun:
    """The steps of the demo. Each raises PlatformError if what it waits for does not happen in time."""

    def __init__(self, platform: Platform, settings: Settings, project: Project, recording: Recording) -> None:
        self.platform, self.settings, self.project = platform, settings, project
        self.name = project.name
        self.recording, self.facts = recording, recording.facts
        self.feedback = ["--feedback"] if project.schema.target else []
        self.rate = RATE

    def run(self) -> None:
        """Run all steps in order."""
        with self.recording.step("the platform starts", "supervisord") as entry:
            entry["detail"] = self.platform.start_demo(self.project, self.recording.say)
        self.probes = Probes(
            settings=self.settings,
            project=self.project,
            airflow=airflow.client(self.settings),
            prometheus=prometheus.client(self.settings),
        )
        self._first_training()
        self._normal_traffic()
        arguments = ["--rows", "0", "--rate", f"{self.rate:g}", "--seed", "2", "--drift", *self.feedback]
        with components.traffic(self.settings, self.project.environment, self.name, *arguments) as process:
            assert process.stdout is not None  # noqa: S101  # it is a pipe
            monitor = TrafficMonitor(iter(process.stdout.readline, ""))
            self._alert(monitor)
            self._retrainings(monitor)
            self._swap(monitor)
            self._resolved(monitor)
            process.terminate()
            self.facts["traffic"] = monitor.ended()
        self._no_failure()
        self._report()

    def _first_training(self) -> None:
        recording, client = self.recording, self.probes.airflow
        with recording.step(f"Airflow reads the DAG {self.name}", "airflow-dag-processor"):
            recording.until("The DAG", lambda: client.send(airflow.dag(self.name)))
        with recording.step("Airflow runs it: ETL, Kubeflow pipeline, gate, promotion", "airflow-scheduler") as entry:
            run_id = client.send(airflow.trigger(self.name, "the demo's first training"))
            dag_run = work.follow(client, self.name, run_id, recording.say)
            entry["detail"] = ", ".join(f"{t['task']} {t['seconds'] or 0:.0f} s" for t in dag_run["tasks"])
            if dag_run["state"] != "success":
                raise recording.failure(f"The run {run_id} ended {dag_run['state']}")
        verdict = self.probes.verdict(run_id)
        if not recording.quiet:
            work.show_verdict(self.project, verdict)
        if not verdict["passed"]:
            raise recording.failure(f"The gate refused the first model: {refused(verdict)}")
        with recording.step("the service serves it", "serving") as entry:
            model = recording.until("The first model", self.probes.served_model)
            entry["detail"] = f"version {model['version']}, {model['candidate']}"
            self.facts |= {"first": model, "first_verdict": verdict}
            self.rate = self.probes.rate(verdict["candidates"][verdict["candidate"]]["latency_ms"])

    def _first_psi(self) -> dict[str, float] | None:
        """Live PSI of the first version's features; None until the window has enough rows."""
        return self.probes.feature_psi(self.facts["first"]["version"]) or None

    def _normal_traffic(self) -> None:
        with self.recording.step("traffic without drift: live drift is small", "serving") as entry:
            rows = max(round(self.rate * NORMAL_SECONDS), round(1.3 * self.probes.minimum_rows))
            arguments = ["--rows", str(rows), "--rate", f"{self.rate:g}", *self.feedback]
            summary = work.traffic(self.settings, self.project, arguments, self.recording.say)
            psi = self.recording.until("Live drift", self._first_psi)
            if max(psi.values()) >= self.project.drift.psi or self.probes.firing_alerts():
                raise self.recording.failure(f"Live drift although the data does not drift: {psi}")
            if summary["failed"]:
                raise self.recording.failure(f"{summary['failed']} requests failed: {summary['errors']}")
            entry["detail"] = f"{summary['sent']} requests, p99 {summary['p99_ms']} ms, PSI at most {max(psi.values())}"
            self.facts |= {"psi_before": psi, "normal_traffic": summary}

    def _alert(self, monitor: TrafficMonitor) -> None:
        with self.recording.step("the data drifts: an alert fires", "prometheus") as entry:
            alerts = self.recording.until("The alert", lambda: self.probes.firing_alerts() or None, monitor)
            psi = self.recording.until("Live drift", self._first_psi, monitor)
            names = sorted({alert["labels"]["alertname"] for alert in alerts})
            worst = max(psi, key=lambda feature: psi[feature])
            entry["detail"] = f"{', '.join(names)}; PSI of {worst} is {psi[worst]}"
            self.facts |= {"psi_drifted": psi, "alerts": names}
            self.recording.until("Alertmanager", lambda: self.probes.sent_alerts() or None, monitor)

    def _retrainings(self, monitor: TrafficMonitor) -> None:
        """Follow the retrainings that the alert starts, until the gate replaces or confirms the champion."""
        run_ids: list[str] = []
        verdict: dict[str, Any] = {}
        while len(run_ids) < RETRAININGS:
            verdict = self._retraining(monitor, run_ids)
            if verdict["passed"] or verdict["confirmed"]:
                self.facts["second_verdict"] = verdict
                return
        raise self.recording.failure(
            f"The gate refused the models of {len(run_ids)} retrainings, the last one: {refused(verdict)}"
        )

    def _retraining(self, monitor: TrafficMonitor, run_ids: list[str]) -> dict[str, Any]:
        """Wait for a retraining that is not in `run_ids`, add its run ID, and return its verdict."""
        recording, probes = self.recording, self.probes
        with recording.step("the alert makes Airflow retrain", "monitor") as entry:
            seconds = WAIT_SECONDS + (probes.cooldown_seconds if run_ids else 0)
            dag_run = recording.until("The retraining", lambda: probes.new_retraining(run_ids), monitor, seconds)
            run_id = dag_run["dag_run_id"]
            run_ids.append(run_id)
            entry["detail"] = str(dag_run["conf"].get("reason", ""))
            self.facts["retraining"] = {"run": run_id, "reason": entry["detail"]}
        title = "the new model is trained and evaluated on original and drifted data"
        with recording.step(title, "airflow-scheduler") as entry:
            end = "The end of the retraining"
            state = recording.until(end, lambda: probes.finished_run(run_id), monitor, TRAINING_SECONDS)["state"]
            if state != "success":
                raise recording.failure(f"The run {run_id} ended {state}")
            verdict = probes.verdict(run_id)
            metric = self.project.primary.name
            champion, candidate = verdict["champion_metrics"][metric], verdict["metrics"][metric]
            entry["detail"] = f"{metric}: {champion:.3f} of version {verdict['champion']}, {candidate:.3f} of the new"
            if not verdict["passed"]:
                entry["detail"] += f". The champion stays: {refused(verdict)}"
            return verdict

    def _swap(self, monitor: TrafficMonitor) -> None:
        with self.recording.step("the service swaps to it", "serving") as entry:
            verdict = self.facts["second_verdict"]
            version = str(verdict["version"] if verdict["passed"] else verdict["confirmed"])
            model = self.recording.until("The swap", lambda: self.probes.served_model(version), monitor)
            self.facts["second"] = model
            entry["detail"] = f"version {self.facts['first']['version']} to {version}, {model['candidate']}"

    def _resolved(self, monitor: TrafficMonitor) -> None:
        with self.recording.step("the alert resolves", "prometheus") as entry:
            event = "The end of the alert"
            model = self.recording.until(event, self.probes.recovered_model, monitor, TRAINING_SECONDS)
            psi = self.facts["psi_after"] = model.pop("psi")
            self.facts["last"] = model
            entry["detail"] = f"the same traffic, PSI at most {max(psi.values())} for version {model['version']}"

    def _no_failure(self) -> None:
        with self.recording.step("no request failed", "serving") as entry:
            traffic = self.facts["traffic"]
            if not traffic.get("done"):
                raise self.recording.failure("The traffic ended early")
            if traffic["failed"]:
                raise self.recording.failure(f"{traffic['failed']} requests failed: {traffic['errors']}")
            versions = {str(self.facts[model]["version"]) for model in ("first", "second", "last")}
            if not versions <= set(traffic["versions"]):
                raise self.recording.failure(
                    f"Versions {sorted(traffic['versions'])} served requests, expected {sorted(versions)}"
                )
            entry["detail"] = (
                f"{traffic['sent']} requests and {traffic['labels']} labels, p99 {traffic['p99_ms']} ms, "
                + ", ".join(f"{count} by version {version}" for version, count in traffic["versions"].items())
            )

    def _report(self) -> None:
        with self.recording.step("Evidently's report of the last window", "monitor") as entry:
            client, dag = self.probes.airflow, f"{self.name}_monitor"
            run_id = client.send(airflow.trigger(dag, "the demo's report"))
            dag_run = work.follow(client, dag, run_id, self.recording.say)
            if dag_run["state"] != "success":
                raise self.recording.failure(f"The run {run_id} ended {dag_run['state']}")
            window = client.send(airflow.result(dag, run_id, "report"))["window"]
            entry["detail"] = f"{self.settings.monitor_url}/reports/{self.name}/{window}/report.html"
            self.facts["report"] = entry["detail"]
