"""Prometheus recording and alerting rules of projects.

Drift is computed in PromQL: the service exports the bin counts of each monitored feature and the reference's shares, and the PSI compares
both over a window (`phaseflow.reference.psi` computes the same in Python). Burn rates follow the SRE Workbook, chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from monitoring.windows import Windows
from phaseflow import kinds, prediction_types
from phaseflow.contract import Project
from phaseflow.loops import METRIC
from phaseflow.metric_names import LATENCY_BUCKETS
from phaseflow.reference import FLOOR, PREDICTIONS

Rule = dict[str, Any]
BURNS: Final = (("5m", "1h", 14.4, "critical"), ("30m", "6h", 6.0, "critical"), ("6h", "3d", 1.0, "warning"))
"""Tuples of short window, long window, burn rate (how many times faster than allowed), and severity."""
ERROR_RISE: Final = 0.10
"""Increase of the live error over the holdout's that counts as a drop in quality."""
RMSE_RATIO: Final = 1.5
"""Ratio of the live RMSE to the holdout's that counts as a drop in quality."""
LOOP_SECONDS: Final = 120
"""Maximum time without a successful iteration of a background loop; a busy loop reports progress."""
BACKUP_SECONDS: Final = 2 * 86_400
"""Maximum age of the last backup, which is daily unless its schedule is changed."""


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
    """An alerting rule with its runbook."""
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
    """Restrict an expression to the served version: after a swap, samples of the old version stay in the window and must not count."""
    return f'({expr}) and on (project, version) phaseflow_model_info{{project="{name}",alias="champion"}}'


def _drift(project: Project, windows: Windows) -> Iterator[Rule]:
    name, window, rows = project.name, windows.window(project), windows.rows(project)
    selector = f'project="{name}"'
    counts = f"sum by (project, version, feature, bin) (increase(phaseflow_feature_bin_total{{{selector}}}[{window}]))"
    total = f"sum by (project, version, feature) (increase(phaseflow_feature_bin_total{{{selector}}}[{window}]))"
    live = f"clamp_min({counts} / ignoring (bin) group_left () ({total} > 0), {FLOOR})"
    expected = (
        f"clamp_min(max by (project, version, feature, bin) (phaseflow_feature_bin_reference{{{selector}}}), {FLOOR})"
    )
    psi = f"sum by (project, version, feature) (({live} - {expected}) * ln({live} / {expected}))"
    window_rows = f"sum by (project, version) (increase(phaseflow_rows_total{{{selector}}}[{window}]))"
    yield {"record": "phaseflow:window_rows", "expr": champion(window_rows, name)}
    yield {
        "record": "phaseflow:feature_psi",
        "expr": champion(f"({psi}) and on (project, version) (phaseflow:window_rows{{{selector}}} >= {rows})", name),
    }
    features = "|".join(project.monitored_features)
    hold = f"{windows.hold_seconds}s"
    yield alert(
        "PhaseflowFeatureDrift",
        f'max by (project) (phaseflow:feature_psi{{{selector},feature=~"{features}"}}) > {project.drift.psi:g}',
        f"The requests of {name} have drifted",
        f"The PSI of {{{{ with query `topk(1, phaseflow:feature_psi{{{selector},feature!~'{PREDICTIONS}'}})` }}}}"
        '{{ . | first | label "feature" }}{{ end }} is {{ $value | printf "%.2f" }} '
        f"over {window} (the alert fires above {project.drift.psi:g}). Retraining starts automatically; see its reason in the DAG {name}.",
        windows,
        hold=hold,
        project=name,
        action="retrain",
        basis="requests",
    )
    yield alert(
        "PhaseflowPredictionDrift",
        f'max by (project) (phaseflow:feature_psi{{{selector},feature=~"{"|".join(prediction_types.monitored_names(project.schema.target))}"}}) > {project.drift.psi:g}',
        f"The predictions of {name} have drifted",
        f'Their PSI is {{{{ $value | printf "%.2f" }}}} over {window}. Check whether the features have drifted, too. If they have not, '
        "look for a change upstream of the requests.",
        windows,
        hold=hold,
        severity="info",
        project=name,
    )


def _quality(project: Project, windows: Windows) -> Iterator[Rule]:
    name, window, rows = project.name, windows.window(project), windows.rows(project)
    metrics = {metric.name for metric in project.metrics}

    def mean(loss: str) -> str:
        selector = f'project="{name}",loss="{loss}"'
        return (
            f"sum by (project, version, slice, value) (increase(phaseflow_live_loss_total{{{selector}}}[{window}])) / "
            f"(sum by (project, version, slice, value) (increase(phaseflow_live_loss_rows_total{{{selector}}}[{window}])) > 0)"
        )

    target = project.schema.target
    if prediction_types.is_structured(target) and "squared" in kinds.of_target(target).losses:
        live = f"sqrt({mean('squared')})"
        condition = f'> on (project, version) group_left () ({RMSE_RATIO:g} * sqrt(phaseflow_model_metric{{project="{name}",metric="squared"}}))'
        text = f'root mean squared error is {{{{ $value | printf "%.2f" }}}}, more than {RMSE_RATIO:g} times the holdout\'s'
    elif prediction_types.is_structured(target):
        live, holdout_error = mean("error"), f'phaseflow_model_metric{{project="{name}",metric="error"}}'
        condition = f"> on (project, version) group_left () ({holdout_error} + {ERROR_RISE:g})"
        text = f'error is {{{{ $value | printf "%.2f" }}}}, more than {ERROR_RISE:g} above the holdout\'s'
    elif "accuracy" in metrics:
        live, holdout_error = mean("error"), f'1 - phaseflow_model_metric{{project="{name}",metric="accuracy"}}'
        condition = f"> on (project, version) group_left () ({holdout_error} + {ERROR_RISE:g})"
        text = f"error rate is {{{{ $value | humanizePercentage }}}}, more than {100 * ERROR_RISE:.0f} percentage points above the holdout's"
    elif "rmse" in metrics:
        live = f"sqrt({mean('squared')})"
        condition = f'> on (project, version) group_left () ({RMSE_RATIO:g} * phaseflow_model_metric{{project="{name}",metric="rmse"}})'
        text = f"root mean squared error is {{{{ $value | humanize }}}}, more than {RMSE_RATIO:g} times the holdout's"
    else:
        return
    yield {"record": "phaseflow:live_loss", "expr": champion(live, name)}
    loss = "squared" if "squared" in live else "error"
    selector = f'project="{name}",loss="{loss}",slice="all"'
    counts = f"sum by (project, version) (increase(phaseflow_live_loss_rows_total{{{selector}}}[{window}]))"
    yield alert(
        "PhaseflowQualityDrop",
        f'max by (project) ((phaseflow:live_loss{{project="{name}",slice="all"}} {condition}) and on (project, version) '
        f"({counts} >= {rows}))",
        f"The predictions of {name} are worse than on its holdout",
        f"The {text}, on predictions of the last {window} that received a label. Retraining starts automatically.",
        windows,
        hold=f"{windows.hold_seconds}s",
        project=name,
        action="retrain",
        basis="feedback",
    )


def _objectives(project: Project, windows: Windows) -> Iterator[Rule]:
    name, objectives = project.name, project.objectives
    selector = f'project="{name}",route="predict"'
    bucket = next((edge for edge in LATENCY_BUCKETS if edge * 1000 >= objectives.latency_ms), LATENCY_BUCKETS[-1])
    for window in sorted({w for short, long, _, _ in BURNS for w in (short, long)}):
        total = f"sum by (project) (rate(phaseflow_requests_total{{{selector}}}[{window}])) > 0"
        failed = (
            f'(sum by (project) (rate(phaseflow_requests_total{{{selector},code=~"5.."}}[{window}])) or 0 * ({total}))'
        )
        yield {"record": f"phaseflow:request_errors:ratio_rate{window}", "expr": f"{failed} / ({total})"}
        # Every Prometheus client writes bucket edges as 0.1 or 1.0.
        fast = (
            f'sum by (project) (rate(phaseflow_request_duration_seconds_bucket{{{selector},le="{bucket}"}}[{window}]))'
        )
        count = f"(sum by (project) (rate(phaseflow_request_duration_seconds_count{{{selector}}}[{window}])) > 0)"
        yield {"record": f"phaseflow:request_slow:ratio_rate{window}", "expr": f"1 - {fast} / {count}"}
    kinds = (
        ("PhaseflowErrorBudgetBurn", "request_errors", 1 - objectives.availability, "requests fail"),
        (
            "PhaseflowLatencyBudgetBurn",
            "request_slow",
            1 - objectives.latency_share,
            f"requests take over {objectives.latency_ms:g} ms",
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
                f"{{{{ $value | humanizePercentage }}}} of {text} over {long}; {budget:.3%} are allowed over 30 days. Check the "
                "project's dashboard and the service's log.",
                windows,
                severity=severity,
                project=name,
                window=long,
            )


def _lifecycle(project: Project, windows: Windows) -> Iterator[Rule]:
    name = project.name
    yield from _staleness(project, windows)
    yield alert(
        "PhaseflowDagFailed",
        f'increase(phaseflow_dag_runs_total{{dag=~"{name}|{name}_monitor",state="failed"}}[15m]) > 0',
        "The DAG {{ $labels.dag }} failed",
        "Open its last run in Airflow. The log of the failed task ends with the error and the fix.",
        windows,
        project=name,
    )
    yield alert(
        "PhaseflowPipelineFailed",
        f'increase(phaseflow_pipeline_runs_total{{project="{name}",state="FAILED"}}[15m]) > 0',
        f"A pipeline run of {name} failed",
        "See the log of the task train of the DAG: it contains the log of the failed step.",
        windows,
        project=name,
    )
    yield alert(
        "PhaseflowMonitorSilent",
        f'time() - phaseflow_report_timestamp_seconds{{project="{name}"}} > {5 * project.monitor_seconds} and on (project) '
        f'sum by (project) (increase(phaseflow_rows_total{{project="{name}"}}[{project.monitor_seconds}s])) > 0',
        f"There is no recent drift report of {name}",
        f"{name} receives requests, but no report was made. Check whether the DAG {name}_monitor runs and the monitor is up.",
        windows,
        hold="5m",
        project=name,
    )
    yield alert(
        "PhaseflowReportTestsFailed",
        f'sum by (project) (phaseflow_report_tests{{project="{name}",status=~"fail|error"}}) > 0',
        f"Tests of the last report of {name} failed",
        f"{{{{ $value }}}} of Evidently's tests failed: drift against the threshold of the contract, or quality of rows with a label. Open {name} "
        "in Evidently to see which.",
        windows,
        severity="info",
        project=name,
    )
    yield alert(
        "PhaseflowModelRefused",
        f'increase(phaseflow_model_load_failures_total{{project="{name}"}}[10m]) > 0',
        f"The service refuses a version of {name} ({{{{ $labels.reason }}}})",
        "The old version stays loaded. `corrupt` means that the model's bytes are not those that were registered: roll back and train "
        "again.",
        windows,
        severity="critical",
        project=name,
    )
    yield alert(
        "PhaseflowRetrainCapReached",
        f'increase(phaseflow_retrain_requests_total{{project="{name}",outcome="cap"}}[1h]) > 0',
        f"{name} has reached its limit of retrainings for today",
        f"{project.drift.daily_cap} per day are allowed, of which the last is reserved for a drop in quality. There is also a limit for "
        "all projects together. The alert still fires, so retraining does not resolve it. Check the data.",
        windows,
        project=name,
    )


def _staleness(project: Project, windows: Windows) -> Iterator[Rule]:
    """Rules for a model, and for labels, that are too old."""
    name = project.name
    if project.schedule:
        yield alert(
            "PhaseflowModelStale",
            f'time() - max by (project) (phaseflow_model_created_timestamp_seconds{{project="{name}"}}) > {30 * 86_400}',
            f"The champion of {name} is older than 30 days",
            f"No newer model has passed the gate. Read the last verdicts of the DAG {name}.",
            windows,
            hold="1h",
            project=name,
        )
    if project.schema.target is not None:
        yield alert(
            "PhaseflowDataStale",
            f'sum by (project) (increase(phaseflow_rows_total{{project="{name}"}}[1d])) > {project.drift.minimum_rows} unless '
            f'sum by (project) (increase(phaseflow_feedback_total{{project="{name}"}}[1d])) > 0',
            f"{name} has received no label for a day",
            "Retraining learns nothing new without labels. Check the client that sends them to /feedback.",
            windows,
            hold="1h",
            severity="info",
            project=name,
        )


def _backup(windows: Windows) -> Iterator[Rule]:
    """Rules for the backups on Kubernetes, from the CronJob's series of kube-state-metrics; without these series, nothing fires."""
    jobs, cron = 'job_name=~".+-backup(-.+)?"', 'cronjob=~".+-backup"'
    succeeded = f"kube_cronjob_status_last_successful_time{{{cron}}}"
    yield alert(
        "PhaseflowBackupFailed",
        f"(kube_job_status_failed{{{jobs}}} > 0) unless on (namespace, job_name) (kube_job_status_start_time{{{jobs}}} "
        f"< on (namespace) group_left () max by (namespace) ({succeeded}))",
        "The backup {{ $labels.job_name }} failed",
        "No later backup has succeeded. Read the log of its pod.",
        windows,
    )
    yield alert(
        "PhaseflowBackupOld",
        f"time() - ({succeeded} or on (namespace, cronjob) kube_cronjob_created{{{cron}}}) > {BACKUP_SECONDS}",
        "There is no backup from the last two days",
        "The last successful backup is {{ $value | humanizeDuration }} old. Check the CronJob {{ $labels.cronjob }}.",
        windows,
        hold="10m",
    )
    pruner = 'cronjob=~".+-prune"'
    yield alert(
        "PhaseflowBackupsNotPruned",
        f"time() - (kube_cronjob_status_last_successful_time{{{pruner}}} or on (namespace, cronjob) kube_cronjob_created{{{pruner}}})"
        f" > {BACKUP_SECONDS}",
        "Old backups have not been removed for two days",
        "They were last removed {{ $value | humanizeDuration }} ago, and the target is filling up. Check the CronJob "
        "{{ $labels.cronjob }}.",
        windows,
        hold="10m",
    )


def platform_rules(windows: Windows) -> dict[str, Any]:
    """The rules that belong to no project."""
    rules = [
        alert(
            "PhaseflowTargetDown",
            'up{job=~"serving|monitor|pipelines"} == 0',
            "Prometheus can't scrape {{ $labels.job }}",
            "Check `phaseflow status`, then the log with `phaseflow logs {{ $labels.job }}`.",
            windows,
            severity="critical",
            hold="1m",
        ),
        alert(
            "PhaseflowRegistryAway",
            "phaseflow_registry_up == 0",
            "The service can't reach MLflow",
            "It keeps serving from its cache, but does not get new champions. Start MLflow.",
            windows,
            hold="2m",
        ),
        alert(
            "PhaseflowSpoolGrowing",
            "phaseflow_spool_rows > 100000",
            "Logged predictions are waiting for the store",
            "The store can't be written to. Check its disk or address. Nothing is lost while the service's own disk has space.",
            windows,
            hold="5m",
        ),
        alert(
            "PhaseflowLoopStalled",
            f"time() - {METRIC} > {LOOP_SECONDS}",
            "The loop {{ $labels.loop }} of {{ $labels.job }} has stalled",
            "Its last success was {{ $value | humanizeDuration }} ago. Check the log of {{ $labels.job }} for the reason, or restart it if "
            "there is none.",
            windows,
            severity="critical",
            hold="1m",
        ),
        *_backup(windows),
    ]
    return {"groups": [{"name": "platform", "rules": rules}]}
