"""Rules tested with promtool, and configurations checked by their own programs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.local import passwords
from cli.local.binaries import Binaries
from monitoring import alertmanager, generate, prometheus, rules
from monitoring.tests.conftest import load
from monitoring.windows import Windows
from phaseflow import discovery, generated
from phaseflow.reference import psi
from phaseflow.settings import ROOT, from_environment

TITANIC, HOUSE = discovery.get("titanic"), discovery.get("house_prices")
SHORT = Windows(window_seconds=600, minimum_rows=100, hold_seconds=60)
M = 'project="titanic",version="1"'
CHAMPION = f'phaseflow_model_info{{{M},alias="champion",candidate="x"}}'
FILES = generate.portable(SHORT)


def series(name: str, labels: str, values: str) -> dict[str, str]:
    return {"series": f"{name}{{{labels}}}", "values": values}


def champion(version: str = "1") -> dict[str, str]:
    return series(
        "phaseflow_model_info", f'project="titanic",version="{version}",alias="champion",candidate="x"', "1x200"
    )


def bins(live: list[int], reference: list[float], version: str = "1", feature: str = "age") -> list[dict[str, str]]:
    """Counters that grow by `live` per scrape, and the reference's shares."""
    samples = [series("phaseflow_rows_total", f'project="titanic",version="{version}"', f"0+{sum(live)}x200")]
    for index, (count, share) in enumerate(zip(live, reference, strict=True)):
        labels = f'project="titanic",version="{version}",feature="{feature}",bin="{index}"'
        samples.append(series("phaseflow_feature_bin_total", labels, f"0+{count}x200"))
        samples.append(series("phaseflow_feature_bin_reference", labels, f"{share}x200"))
    return samples


def quality(
    wrong: int, of: int = 20, loss: str = "error", metric: tuple[str, float] = ("accuracy", 0.8), name: str = "titanic"
) -> list[dict[str, str]]:
    selector = f'project="{name}",version="1"'
    slice_selector = f'{selector},loss="{loss}",slice="all",value="all"'
    return [
        series("phaseflow_model_info", f'{selector},alias="champion",candidate="x"', "1x200"),
        series("phaseflow_model_metric", f'{selector},metric="{metric[0]}"', f"{metric[1]}x200"),
        series("phaseflow_live_loss_total", slice_selector, f"0+{wrong}x200"),
        series("phaseflow_live_loss_rows_total", slice_selector, f"0+{of}x200"),
    ]


def requests(bad: int, slow: int = 0, of: int = 100) -> list[dict[str, str]]:
    selector = 'project="titanic",route="predict"'
    return [
        series("phaseflow_requests_total", f'{selector},code="200"', f"0+{of - bad}x300"),
        series("phaseflow_requests_total", f'{selector},code="500"', f"0+{bad}x300"),
        series("phaseflow_request_duration_seconds_bucket", f'{selector},le="0.1"', f"0+{of - slow}x300"),
        series("phaseflow_request_duration_seconds_count", selector, f"0+{of}x300"),
    ]


CRONJOB = 'namespace="n",cronjob="phaseflow-backup"'
PRUNER = 'namespace="n",cronjob="phaseflow-prune"'
JOB = 'namespace="n",job_name="phaseflow-backup-2957140'
CASES: dict[str, tuple[list[dict[str, str]], list[dict[str, str]], str]] = {
    # alert: series that fire it, series that don't, time of evaluation
    "PhaseflowFeatureDrift": (
        [champion(), *bins([0, 10, 90], [0.5, 0.4, 0.1])],
        [champion(), *bins([50, 40, 10], [0.5, 0.4, 0.1])],
        "30m",
    ),
    "PhaseflowPredictionDrift": (
        [champion(), *bins([90, 10], [0.5, 0.5], feature="prediction")],
        [champion(), *bins([50, 50], [0.5, 0.5], feature="prediction")],
        "30m",
    ),
    "PhaseflowQualityDrop": ([*quality(12)], [*quality(5)], "30m"),
    "PhaseflowErrorBudgetBurn": (requests(5), requests(0), "2h"),
    "PhaseflowLatencyBudgetBurn": (requests(0, slow=40), requests(0, slow=0), "2h"),
    "PhaseflowModelStale": (
        [series("phaseflow_model_created_timestamp_seconds", M, "-2700000x200")],
        [series("phaseflow_model_created_timestamp_seconds", M, "0x200")],
        "2h",
    ),
    "PhaseflowDataStale": (
        [series("phaseflow_rows_total", M, "0+50x300")],
        [series("phaseflow_rows_total", M, "0+50x300"), series("phaseflow_feedback_total", M, "0+5x300")],
        "3h",
    ),
    "PhaseflowDagFailed": (
        [series("phaseflow_dag_runs_total", 'dag="titanic",state="failed"', "0x10 1x200")],
        [series("phaseflow_dag_runs_total", 'dag="titanic",state="failed"', "1x200")],
        "15m",
    ),
    "PhaseflowPipelineFailed": (
        [series("phaseflow_pipeline_runs_total", 'project="titanic",state="FAILED"', "0x10 1x200")],
        [series("phaseflow_pipeline_runs_total", 'project="titanic",state="FAILED"', "0x200")],
        "15m",
    ),
    "PhaseflowMonitorSilent": (
        [
            series("phaseflow_rows_total", M, "0+5x200"),
            series("phaseflow_report_timestamp_seconds", 'project="titanic"', "0x200"),
        ],
        [
            series("phaseflow_rows_total", M, "9x200"),
            series("phaseflow_report_timestamp_seconds", 'project="titanic"', "0x200"),
        ],
        "1h",
    ),
    "PhaseflowReportTestsFailed": (
        [series("phaseflow_report_tests", 'project="titanic",status="fail"', "2x200")],
        [
            series("phaseflow_report_tests", 'project="titanic",status="fail"', "0x200"),
            series("phaseflow_report_tests", 'project="titanic",status="warning"', "1x200"),
        ],
        "5m",
    ),
    "PhaseflowModelRefused": (
        [series("phaseflow_model_load_failures_total", 'project="titanic",reason="corrupt"', "0x10 1x200")],
        [series("phaseflow_model_load_failures_total", 'project="titanic",reason="corrupt"', "0x200")],
        "8m",
    ),
    "PhaseflowRetrainCapReached": (
        [series("phaseflow_retrain_requests_total", 'project="titanic",outcome="cap"', "0x10 1x200")],
        [series("phaseflow_retrain_requests_total", 'project="titanic",outcome="cooldown"', "0x10 1x200")],
        "15m",
    ),
    "PhaseflowTargetDown": ([series("up", 'job="serving"', "0x200")], [series("up", 'job="serving"', "1x200")], "5m"),
    "PhaseflowRegistryAway": (
        [series("phaseflow_registry_up", "", "0x200")],
        [series("phaseflow_registry_up", "", "1x200")],
        "5m",
    ),
    "PhaseflowLoopStalled": (
        [series("phaseflow_loop_last_iteration_timestamp_seconds", 'job="serving",loop="ship"', "0x200")],
        [series("phaseflow_loop_last_iteration_timestamp_seconds", 'job="serving",loop="ship"', "0+60x200")],
        "10m",
    ),
    "PhaseflowBackupFailed": (
        [
            series("kube_job_status_failed", f'{JOB}2"', "0x5 1x200"),
            series("kube_job_status_start_time", f'{JOB}2"', "6000x200"),
            series("kube_cronjob_status_last_successful_time", CRONJOB, "5000x200"),
        ],
        [
            series("kube_job_status_failed", f'{JOB}2"', "1x200"),
            series("kube_job_status_start_time", f'{JOB}2"', "4000x200"),
            series("kube_cronjob_status_last_successful_time", CRONJOB, "5000x200"),
        ],
        "2h",
    ),
    "PhaseflowBackupOld": (
        [series("kube_cronjob_status_last_successful_time", CRONJOB, "-190000x200")],
        [
            series("kube_cronjob_status_last_successful_time", CRONJOB, "-90000x200"),
            series("kube_cronjob_created", CRONJOB, "-900000x200"),
        ],
        "2h",
    ),
    "PhaseflowBackupsNotPruned": (
        [series("kube_cronjob_status_last_successful_time", PRUNER, "-190000x200")],
        [
            series("kube_cronjob_status_last_successful_time", PRUNER, "-90000x200"),
            series("kube_cronjob_created", PRUNER, "-900000x200"),
            series("kube_cronjob_created", CRONJOB, "-900000x200"),
        ],
        "2h",
    ),
    "PhaseflowSpoolGrowing": (
        [series("phaseflow_spool_rows", "", "200000x200")],
        [series("phaseflow_spool_rows", "", "9x200")],
        "10m",
    ),
}


def run(promtool: Path, folder: Path, test: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run `promtool test rules` on the generated rules of the platform and of the projects in the series."""
    rules = {Path(name).stem: text for name, text in FILES.items() if name.startswith("rules/")}
    names = {"platform"} | {name for name in rules if name in str(test)}
    for name in names:
        (folder / f"{name}.yaml").write_text(rules[name])
    files = [f"{name}.yaml" for name in sorted(names)]
    interval = test["interval"]  # nothing changes in between
    whole = {"rule_files": files, "evaluation_interval": interval, "tests": [test]}
    (folder / "tests.yaml").write_text(yaml.safe_dump(whole))
    return subprocess.run(
        [promtool, "test", "rules", "tests.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )


def firing(promtool: Path, folder: Path, input_series: list[dict[str, str]], alert: str, when: str) -> bool:
    """Whether the alert fires: promtool fails if an alert fires that is not expected."""
    step = (
        "1m" if when.endswith("h") or "stamp" in str(input_series) or "failed" in str(input_series).lower() else "15s"
    )
    expected = {"eval_time": when, "alertname": alert, "exp_alerts": []}
    completed = run(promtool, folder, {"interval": step, "input_series": input_series, "alert_rule_test": [expected]})
    if completed.returncode and "exp:[" not in completed.stdout + completed.stderr:
        pytest.fail(completed.stdout + completed.stderr)
    return completed.returncode != 0


def test_every_alert_has_a_case_and_a_runbook() -> None:
    alert_names = {
        rule["alert"]
        for text in FILES.values()
        if text.startswith("#")
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert alert_names == CASES.keys()
    for name in alert_names:
        page = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
        assert [line for line in page.splitlines() if line.startswith("## ")] == [
            "## What it means",
            "## What to look at",
            "## What to do",
        ]
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("Phaseflow*.md")} == alert_names


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_and_does_not_fire(promtool: Path, tmp_path: Path, alert: str) -> None:
    fires, quiet, when = CASES[alert]
    assert firing(promtool, tmp_path, fires, alert, when)
    assert not firing(promtool, tmp_path, quiet, alert, when)


@pytest.mark.parametrize(
    ("alert", "input_series", "fires"),
    [
        # The first backup failed, and none has ever succeeded.
        ("PhaseflowBackupFailed", [series("kube_job_status_failed", f'{JOB}2"', "1x200")], True),
        (
            "PhaseflowBackupFailed",
            [series("kube_job_status_failed", 'namespace="n",job_name="other-1"', "1x200")],
            False,
        ),
        ("PhaseflowBackupOld", [series("kube_cronjob_created", CRONJOB, "-190000x200")], True),
        ("PhaseflowBackupOld", [series("kube_cronjob_created", CRONJOB, "-1000x200")], False),
        ("PhaseflowBackupsNotPruned", [series("kube_cronjob_created", PRUNER, "-190000x200")], True),
        # Without kube-state-metrics there are no such series.
        ("PhaseflowBackupFailed", [series("up", 'job="serving"', "1x200")], False),
        ("PhaseflowBackupOld", [series("up", 'job="serving"', "1x200")], False),
        ("PhaseflowLoopStalled", [series("up", 'job="serving"', "1x200")], False),
    ],
)
def test_backups_and_loops_without_series(
    promtool: Path, tmp_path: Path, alert: str, input_series: list[dict[str, str]], fires: bool
) -> None:
    assert firing(promtool, tmp_path, input_series, alert, "2h") == fires


def test_an_alert_that_retrains_has_a_basis() -> None:
    bases = {
        (rule["alert"], rule["labels"].get("basis"))
        for project in discovery.all_projects()
        for group in rules.project_rules(project, SHORT)["groups"]
        for rule in group["rules"]
        if rule.get("labels", {}).get("action") == "retrain"
    }
    assert bases == {("PhaseflowFeatureDrift", "requests"), ("PhaseflowQualityDrop", "feedback")}


def test_numbers_have_their_own_quality_rule(promtool: Path, tmp_path: Path) -> None:
    bad = quality(900, of=20, loss="squared", metric=("rmse", 4.0), name="house_prices")
    good = quality(300, of=20, loss="squared", metric=("rmse", 4.0), name="house_prices")
    assert firing(promtool, tmp_path, bad, "PhaseflowQualityDrop", "30m")
    assert not firing(promtool, tmp_path, good, "PhaseflowQualityDrop", "30m")


def test_few_rows_do_not_fire_an_alert(promtool: Path, tmp_path: Path) -> None:
    few = [champion(), *bins([0, 0, 2], [0.5, 0.4, 0.1])]
    assert not firing(promtool, tmp_path, few, "PhaseflowFeatureDrift", "30m")


def test_a_swap_ends_the_alert(promtool: Path, tmp_path: Path) -> None:
    old = bins([0, 10, 90], [0.5, 0.4, 0.1])
    new = bins([0, 10, 90], [0.0, 0.1, 0.9], version="2")
    before = series("phaseflow_model_info", f'{M},alias="champion",candidate="x"', "1x80 stale")
    after = series("phaseflow_model_info", 'project="titanic",version="2",alias="champion",candidate="x"', "_x81 1x120")
    input_series = [before, after, *old, *new]
    assert firing(promtool, tmp_path, input_series, "PhaseflowFeatureDrift", "19m")
    assert not firing(promtool, tmp_path, input_series, "PhaseflowFeatureDrift", "22m")


@pytest.mark.parametrize(
    ("live", "reference"),
    [([50, 40, 10], [0.5, 0.4, 0.1]), ([0, 10, 90], [0.5, 0.4, 0.1]), ([20, 0, 80, 0], [0.0, 0.5, 0.3, 0.2])],
)
def test_psi_in_promql_is_psi_in_python(
    promtool: Path, tmp_path: Path, live: list[int], reference: list[float]
) -> None:
    expected = psi(reference, [count / sum(live) for count in live])
    test = {
        "interval": "15s",
        "input_series": [champion(), *bins(live, reference)],
        "promql_expr_test": [
            {
                "expr": f'abs(phaseflow:feature_psi{{project="titanic",feature="age"}} - {expected:.12f}) < bool 1e-9',
                "eval_time": "30m",
                "exp_samples": [{"labels": '{project="titanic", version="1", feature="age"}', "value": 1}],
            }
        ],
    }
    completed = run(promtool, tmp_path, test)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_the_configurations_are_right(programs: Binaries, promtool: Path, tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    passwords.ensure(settings)
    for name, text in (FILES | generate.machine(SHORT, settings, tmp_path)).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    completed = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yaml"], capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert completed.stdout.count("rule files found") == 1
    load(programs, tmp_path / "alertmanager.yaml")
    configuration = yaml.safe_load((tmp_path / "alertmanager.yaml").read_text())
    assert configuration["route"]["routes"][0]["matchers"] == ['action="retrain"']
    assert "credentials" not in configuration["receivers"][1]["webhook_configs"][0]["http_config"]["authorization"]
    for part in ("prometheus", "alertmanager"):
        checked = subprocess.run(
            [promtool, "check", "web-config", tmp_path / f"{part}-web.yaml"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr


def test_the_committed_files_are_fresh() -> None:
    assert generated.stale(generate.COMMITTED, generate.committed()) == [], "run `make generate`"


def test_routes_and_targets_are_data() -> None:
    configuration = alertmanager.configuration(SHORT, "http://m", "/t", [{"name": "a"}, {"name": "b"}])
    assert configuration["route"]["receiver"] == "a"
    assert [receiver["name"] for receiver in configuration["receivers"]] == ["a", "b", "retrain"]
    assert configuration["receivers"][2]["webhook_configs"][0]["url"] == "http://m/hooks/alertmanager"
    jobs = prometheus.configuration(SHORT, {"serving": "a:1"}, "b:2", "/r/*.yaml")["scrape_configs"]
    assert jobs == [{"job_name": "serving", "static_configs": [{"targets": ["a:1"]}]}]
    assert rules.platform_rules(SHORT)["groups"][0]["name"] == "platform"
