"""Project -> Prometheus recording and alerting rules.

Live drift in PromQL: the service counts each watched feature's bins beside the reference's shares, and PSI compares both over a
window (`phaseflow.reference.psi` is the same figure in Python). Burn rates after the SRE Workbook, chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from monitoring.windows import Windows
from phaseflow import answers
from phaseflow.contract import Project
from phaseflow.loops import METRIC
from phaseflow.reference import FLOOR, PREDICTIONS

Rule = dict[str, Any]
BURNS: Final = (("5m", "1h", 14.4, "critical"), ("30m", "6h", 6.0, "critical"), ("6h", "3d", 1.0, "warning"))
"""Short window, long window, how many times faster than allowed the budget burns, severity."""
ERROR_RISE: Final = 0.10
"""Share of wrong answers above the holdout's that counts as a drop in quality."""
RMSE_RATIO: Final = 1.5
"""Live error of numbers over the holdout's, likewise."""
LOOP_SECONDS: Final = 120
"""Without a successful iteration of a background loop; a busy one says that it is at work."""
BACKUP_SECONDS: Final = 2 * 86_400
"""Since the last backup, which is daily unless its schedule is changed."""
LATENCIES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""The service's histogram."""


def alert(
    name: str,
    expr: str,
    summary: str,
    description: str,
    windows: Windows,
    *,
    severity: str = "warning",
    hold: str = "0s",
    **labels: str,
) -> Rule:
    """One alerting rule with its runbook."""
    return {
        "alert": name,
        "expr": expr,
        "for": hold,
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": summary, "description": description, "runbook_url": f"{windows.runbooks}/{name}.md"},
    }


def project_rules(project: Project, windows: Windows) -> dict[str, Any]:
    """The rule file of one project."""
    groups = [
        {"name": f"{project.name}.drift", "rules": list(_drift(project, windows))},
        {"name": f"{project.name}.quality", "rules": list(_quality(project, windows))},
        {"name": f"{project.name}.objectives", "rules": list(_objectives(project, windows))},
        {"name": f"{project.name}.lifecycle", "rules": list(_lifecycle(project, windows))},
    ]
    return {"groups": [group for group in groups if group["rules"]]}


def champion(expr: str, name: str) -> str:
    """Only the served version: after a swap the old one's samples stay in the window and must say nothing."""
    return f'({expr}) and on (project, version) phaseflow_model_info{{project="{name}",alias="champion"}}'


def _drift(project: Project, windows: Windows) -> Iterator[Rule]:
    name, window, rows = project.name, windows.window(project), windows.rows(project)
    mine = f'project="{name}"'
    counted = f"sum by (project, version, feature, bin) (increase(phaseflow_feature_bin_total{{{mine}}}[{window}]))"
    total = f"sum by (project, version, feature) (increase(phaseflow_feature_bin_total{{{mine}}}[{window}]))"
    live = f"clamp_min({counted} / ignoring (bin) group_left () ({total} > 0), {FLOOR})"
    expected = (
        f"clamp_min(max by (project, version, feature, bin) (phaseflow_feature_bin_reference{{{mine}}}), {FLOOR})"
    )
    psi = f"sum by (project, version, feature) (({live} - {expected}) * ln({live} / {expected}))"
    window_rows = f"sum by (project, version) (increase(phaseflow_rows_total{{{mine}}}[{window}]))"
    yield {"record": "phaseflow:window_rows", "expr": champion(window_rows, name)}
    yield {
        "record": "phaseflow:feature_psi",
        "expr": champion(f"({psi}) and on (project, version) (phaseflow:window_rows{{{mine}}} >= {rows})", name),
    }
    features = "|".join(project.watched)
    hold = f"{windows.hold_seconds}s"
    yield alert(
        "PhaseflowFeatureDrift",
        f'max by (project) (phaseflow:feature_psi{{{mine},feature=~"{features}"}}) > {project.drift.psi:g}',
        f"The requests of {name} have drifted",
        f"The PSI of {{{{ with query `topk(1, phaseflow:feature_psi{{{mine},feature!~'{PREDICTIONS}'}})` }}}}"
        '{{ . | first | label "feature" }}{{ end }} is {{ $value | printf "%.2f" }} '
        f"over {window} (fires at {project.drift.psi:g}). Retraining starts by itself; read its reason in the DAG {name}.",
        windows,
        hold=hold,
        project=name,
        action="retrain",
        basis="requests",
    )
    yield alert(
        "PhaseflowPredictionDrift",
        f'max by (project) (phaseflow:feature_psi{{{mine},feature=~"{"|".join(answers.watched(project.schema.target))}"}}) > {project.drift.psi:g}',
        f"The answers of {name} have drifted",
        f'Their PSI is {{{{ $value | printf "%.2f" }}}} over {window}. Compare with the drift of the features: without any, look '
        "for a change upstream of the requests.",
        windows,
        hold=hold,
        severity="info",
        project=name,
    )


def _quality(project: Project, windows: Windows) -> Iterator[Rule]:
    name, window, rows = project.name, windows.window(project), windows.rows(project)
    metrics = {metric.name for metric in project.metrics}

    def mean(loss: str) -> str:
        chosen = f'project="{name}",loss="{loss}"'
        return (
            f"sum by (project, version, slice, value) (increase(phaseflow_live_loss_total{{{chosen}}}[{window}])) / "
            f"(sum by (project, version, slice, value) (increase(phaseflow_live_loss_rows_total{{{chosen}}}[{window}])) > 0)"
        )

    target = project.schema.target
    if target is not None and target.kind == "action":
        live = f"sqrt({mean('squared')})"
        condition = f'> on (project, version) group_left () ({RMSE_RATIO:g} * sqrt(phaseflow_model_metric{{project="{name}",metric="squared"}}))'
        text = f'root mean squared error is {{{{ $value | printf "%.2f" }}}}, more than {RMSE_RATIO:g} times the holdout\'s'
    elif answers.structured(target):
        live, known = mean("error"), f'phaseflow_model_metric{{project="{name}",metric="error"}}'
        condition = f"> on (project, version) group_left () ({known} + {ERROR_RISE:g})"
        text = f'error is {{{{ $value | printf "%.2f" }}}}, more than {ERROR_RISE:g} above the holdout\'s'
    elif "accuracy" in metrics:
        live, known = mean("error"), f'1 - phaseflow_model_metric{{project="{name}",metric="accuracy"}}'
        condition = f"> on (project, version) group_left () ({known} + {ERROR_RISE:g})"
        text = f"share of wrong answers is {{{{ $value | humanizePercentage }}}}, more than {ERROR_RISE:.0%} above the holdout's"
    elif "rmse" in metrics:
        live = f"sqrt({mean('squared')})"
        condition = f'> on (project, version) group_left () ({RMSE_RATIO:g} * phaseflow_model_metric{{project="{name}",metric="rmse"}})'
        text = f"root mean squared error is {{{{ $value | humanize }}}}, more than {RMSE_RATIO:g} times the holdout's"
    else:
        return
    yield {"record": "phaseflow:live_loss", "expr": champion(live, name)}
    loss = "squared" if "squared" in live else "error"
    chosen = f'project="{name}",loss="{loss}",slice="all"'
    counted = f"sum by (project, version) (increase(phaseflow_live_loss_rows_total{{{chosen}}}[{window}]))"
    yield alert(
        "PhaseflowQualityDrop",
        f'max by (project) ((phaseflow:live_loss{{project="{name}",slice="all"}} {condition}) and on (project, version) '
        f"({counted} >= {rows}))",
        f"{name} answers worse than it did on its holdout",
        f"Its {text}, over {window} of answers whose truth came back. Retraining starts by itself.",
        windows,
        hold=f"{windows.hold_seconds}s",
        project=name,
        action="retrain",
        basis="feedback",
    )


def _objectives(project: Project, windows: Windows) -> Iterator[Rule]:
    name, goals = project.name, project.objectives
    mine = f'project="{name}",route="predict"'
    bucket = next((edge for edge in LATENCIES if edge * 1000 >= goals.latency_ms), LATENCIES[-1])
    for window in sorted({w for short, long, _, _ in BURNS for w in (short, long)}):
        total = f"sum by (project) (rate(phaseflow_requests_total{{{mine}}}[{window}])) > 0"
        failed = f'(sum by (project) (rate(phaseflow_requests_total{{{mine},code=~"5.."}}[{window}])) or 0 * ({total}))'
        yield {"record": f"phaseflow:request_errors:ratio_rate{window}", "expr": f"{failed} / ({total})"}
        # A bucket's edge is written 0.1 or 1.0 by every Prometheus client.
        quick = f'sum by (project) (rate(phaseflow_request_duration_seconds_bucket{{{mine},le="{bucket}"}}[{window}]))'
        timed = f"(sum by (project) (rate(phaseflow_request_duration_seconds_count{{{mine}}}[{window}])) > 0)"
        yield {"record": f"phaseflow:request_slow:ratio_rate{window}", "expr": f"1 - {quick} / {timed}"}
    kinds = (
        ("PhaseflowErrorBudgetBurn", "request_errors", 1 - goals.availability, "requests fail"),
        (
            "PhaseflowLatencyBudgetBurn",
            "request_slow",
            1 - goals.latency_share,
            f"requests take over {goals.latency_ms:g} ms",
        ),
    )
    for alert_name, record, budget, text in kinds:
        for short, long, factor, severity in BURNS:
            limit = f"{factor * budget:.6g}"
            yield alert(
                alert_name,
                f'phaseflow:{record}:ratio_rate{long}{{project="{name}"}} > {limit} and '
                f'phaseflow:{record}:ratio_rate{short}{{project="{name}"}} > {limit}',
                f"{name} spends its error budget {factor:g} times too fast",
                f"{{{{ $value | humanizePercentage }}}} of {text} over {long}; {budget:.3%} are allowed over 30 days. Look at the "
                "service's dashboard and log.",
                windows,
                severity=severity,
                project=name,
                window=long,
            )


def _lifecycle(project: Project, windows: Windows) -> Iterator[Rule]:
    name = project.name
    if project.schedule:
        yield alert(
            "PhaseflowModelStale",
            f'time() - max by (project) (phaseflow_model_created_timestamp_seconds{{project="{name}"}}) > {30 * 86_400}',
            f"{name}'s champion is older than 30 days",
            f"No newer model passed the gate. Read the last verdicts of the DAG {name}.",
            windows,
            hold="1h",
            project=name,
        )
    if project.schema.target is not None:
        yield alert(
            "PhaseflowDataStale",
            f'sum by (project) (increase(phaseflow_rows_total{{project="{name}"}}[1d])) > {project.drift.minimum_rows} unless '
            f'sum by (project) (increase(phaseflow_feedback_total{{project="{name}"}}[1d])) > 0',
            f"No truth came back to {name} for a day",
            "Retraining learns nothing new without it. Check the client that sends /feedback.",
            windows,
            hold="1h",
            severity="info",
            project=name,
        )
    yield alert(
        "PhaseflowDagFailed",
        f'increase(phaseflow_dag_runs_total{{dag=~"{name}|{name}_monitor",state="failed"}}[15m]) > 0',
        "The DAG {{ $labels.dag }} failed",
        "Open its last run in Airflow: the failed task's log ends with the error and the fix.",
        windows,
        project=name,
    )
    yield alert(
        "PhaseflowPipelineFailed",
        f'increase(phaseflow_pipeline_runs_total{{project="{name}",state="FAILED"}}[15m]) > 0',
        f"A pipeline run of {name} failed",
        "The failed step's log is in the log of the DAG's task train.",
        windows,
        project=name,
    )
    yield alert(
        "PhaseflowMonitorSilent",
        f'time() - phaseflow_report_timestamp_seconds{{project="{name}"}} > {5 * project.monitor_seconds} and on (project) '
        f'sum by (project) (increase(phaseflow_rows_total{{project="{name}"}}[{project.monitor_seconds}s])) > 0',
        f"Nobody has looked at {name} for a while",
        f"Requests come in and no report was made. See whether the DAG {name}_monitor runs and the monitor is up.",
        windows,
        hold="5m",
        project=name,
    )
    yield alert(
        "PhaseflowModelRefused",
        f'increase(phaseflow_model_load_failures_total{{project="{name}"}}[10m]) > 0',
        f"The service refuses a version of {name} ({{{{ $labels.reason }}}})",
        "The old version stays. `corrupt`: the model's bytes are not those that were registered; roll back and train again.",
        windows,
        severity="critical",
        project=name,
    )
    yield alert(
        "PhaseflowRetrainCapReached",
        f'increase(phaseflow_retrain_requests_total{{project="{name}",outcome="cap"}}[1h]) > 0',
        f"{name} has been retrained as often as it may today",
        f"{project.drift.daily_cap} a day are allowed, the last of them after a drop in quality alone, and all projects together have a cap, "
        "too. The alert still fires: retraining does not answer it. Look at the data.",
        windows,
        project=name,
    )


def _backup(windows: Windows) -> Iterator[Rule]:
    """On Kubernetes, where kube-state-metrics tells of its CronJob; elsewhere there are no such series, and nothing fires."""
    jobs, cron = 'job_name=~".+-backup(-.+)?"', 'cronjob=~".+-backup"'
    succeeded = f"kube_cronjob_status_last_successful_time{{{cron}}}"
    yield alert(
        "PhaseflowBackupFailed",
        f"(kube_job_status_failed{{{jobs}}} > 0) unless on (namespace, job_name) (kube_job_status_start_time{{{jobs}}} "
        f"< on (namespace) group_left () max by (namespace) ({succeeded}))",
        "The backup {{ $labels.job_name }} failed",
        "No later one has succeeded. Read the log of its pod.",
        windows,
    )
    yield alert(
        "PhaseflowBackupOld",
        f"time() - ({succeeded} or on (namespace, cronjob) kube_cronjob_created{{{cron}}}) > {BACKUP_SECONDS}",
        "There is no backup of the last two days",
        "The last one that succeeded is {{ $value | humanizeDuration }} old. See the CronJob {{ $labels.cronjob }}.",
        windows,
        hold="10m",
    )
    pruner = 'cronjob=~".+-prune"'
    yield alert(
        "PhaseflowBackupsNotPruned",
        f"time() - (kube_cronjob_status_last_successful_time{{{pruner}}} or on (namespace, cronjob) kube_cronjob_created{{{pruner}}})"
        f" > {BACKUP_SECONDS}",
        "Old backups have not been removed for two days",
        "They were last removed {{ $value | humanizeDuration }} ago, and the target fills up. See the CronJob {{ $labels.cronjob }}.",
        windows,
        hold="10m",
    )


def platform_rules(windows: Windows) -> dict[str, Any]:
    """What belongs to no project."""
    rules = [
        alert(
            "PhaseflowTargetDown",
            'up{job=~"serving|monitor|pipelines"} == 0',
            "{{ $labels.job }} does not answer Prometheus",
            "See `phaseflow status`, then its log (`phaseflow logs {{ $labels.job }}`).",
            windows,
            severity="critical",
            hold="1m",
        ),
        alert(
            "PhaseflowRegistryAway",
            "phaseflow_registry_up == 0",
            "The service can't reach MLflow",
            "It serves on from its cache, and no new champion arrives. Start MLflow.",
            windows,
            hold="2m",
        ),
        alert(
            "PhaseflowSpoolGrowing",
            "phaseflow_spool_rows > 100000",
            "Predictions wait for the store",
            "The store can't be written. Look at its disk or address; nothing is lost while the service's own disk has room.",
            windows,
            hold="5m",
        ),
        alert(
            "PhaseflowLoopStalled",
            f"time() - {METRIC} > {LOOP_SECONDS}",
            "The loop {{ $labels.loop }} of {{ $labels.job }} stands still",
            "It last succeeded {{ $value | humanizeDuration }} ago. Its log says why; restart it if the log does not.",
            windows,
            severity="critical",
            hold="1m",
        ),
        *_backup(windows),
    ]
    return {"groups": [{"name": "platform", "rules": rules}]}
