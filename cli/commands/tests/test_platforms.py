"""The main path of the commands on both platforms, with small real servers and recorded kubectl and helm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.commands.tests.conftest import CHAMPION, Command, Server
from phaseflow.settings import from_environment


def test_trigger_starts_the_dag_and_waits(phaseflow: Command, server: Server) -> None:
    result = phaseflow('trigger titanic --wait --reason "new data"')
    assert result.exit_code == 0, result.output
    assert "manual__1: success" in result.stdout
    assert ("POST", "/airflow/api/v2/dags/titanic/dagRuns") in {call[:2] for call in server.calls}
    bodies = {path: body for method, path, body in server.calls if method == "POST"}
    assert bodies["/airflow/api/v2/dags/titanic/dagRuns"]["conf"] == {"reason": "new data"}
    assert bodies["/airflow/auth/token"]["password"] == ("cluster-password" if phaseflow.programs else "local-password")


def test_a_failed_run_ends_with_1(phaseflow: Command, server: Server) -> None:
    server.state = "failed"
    result = phaseflow("trigger titanic --wait --json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["tasks"][0] == {"task": "train", "state": "failed", "seconds": 1.5, "end": "b"}


def test_traffic_reaches_the_service(phaseflow: Command, server: Server) -> None:
    result = phaseflow("traffic titanic --rows 20 --rate 0 --json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["sent"], summary["failed"], summary["versions"]) == (20, 0, {"3": 20})
    assert [path for _, path, _ in server.calls].count("/serving/titanic/predict") == 20


def test_urls_names_where_a_password_is_and_prints_it_only_on_request(phaseflow: Command) -> None:
    for name in ("prometheus_password", "alertmanager_password", "grafana_admin_password"):
        (from_environment().secrets / name).parent.mkdir(parents=True, exist_ok=True)
        (from_environment().secrets / name).write_text("x")
    password = "cluster-password" if phaseflow.programs else "local-password"
    source = "get secret phaseflow-airflow" if phaseflow.programs else "secrets/airflow_admin_password"
    pages = {page["name"]: page for page in json.loads(phaseflow("urls --json").stdout)}
    assert pages["Airflow"]["url"].rstrip("/").endswith("/airflow")
    assert source in pages["Airflow"]["password_file"] + pages["Airflow"]["password_command"]
    assert pages["Airflow"]["password"] == ""
    assert password not in phaseflow("urls").stdout
    assert password in phaseflow("urls --show-passwords").stdout


def test_with_one_login_no_page_has_a_password_of_its_own(cluster: Command) -> None:
    values = json.loads(next(out for words, _, out, _ in cluster.responses() if words == "get values phaseflow"))
    values["global"]["auth"] = {"oidc": {"enabled": True}}
    cluster.respond("get values phaseflow", json.dumps(values))
    pages = json.loads(cluster("urls --json --show-passwords").stdout)
    assert len(pages) > 5
    assert {(page["user"], page["password"], page["password_command"]) for page in pages} == {("", "", "")}


def test_promote_and_rollback_run_in_mlflows_pod(cluster: Command) -> None:
    result = cluster("promote titanic 3 --force")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "titanic: version 3 is the champion (previously version 2)"
    assert json.loads(cluster("rollback titanic --json").stdout) == CHAMPION
    command = ["kubectl", "exec", "deployment/phaseflow-mlflow", "--", "python", "-m", "services.registry"]
    assert cluster.calls() == [
        [*command, "promote", "--project", "titanic", "--version", "3", "--force"],
        [*command, "rollback", "--project", "titanic"],
    ]


def test_an_error_of_the_registry_is_printed_with_its_fix(cluster: Command) -> None:
    report = json.dumps({"error": "PermanentError", "problem": "titanic has no challenger", "fix": "Train one"})
    error = f"error: titanic has no challenger.\n{report}\ncommand terminated with exit code 2\n"
    cluster.respond("services.registry promote", code=2, error=error)
    result = cluster("promote titanic")
    assert result.exit_code == 2
    assert result.stderr == "error: titanic has no challenger.\nfix: Train one.\n"


def test_promote_and_rollback_report_an_unreachable_registry(local: Command) -> None:
    os.environ |= {"PHASEFLOW_MLFLOW_URL": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    for line in ("promote titanic", "rollback titanic"):
        result = local(line)
        assert result.exit_code == 2
        assert "fix: Start it (`phaseflow up`) and retry." in result.stderr


def test_the_state_of_a_release_is_a_table_or_json(cluster: Command) -> None:
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "phaseflow-portal", "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 0, "replicas": 1},
    }
    cluster.respond("get deployments,statefulsets,jobs", json.dumps({"items": [deployment]}))
    cluster.respond("get pods,deployments", json.dumps({"items": []}))
    result = cluster("status")
    assert result.exit_code == 1
    assert "portal" in result.stdout
    assert json.loads(cluster("status --json").stdout) == {"ready": {"portal": False}, "reasons": []}
    deployment["status"] |= {"readyReplicas": 1}  # type: ignore[operator]  # a dict
    cluster.respond("get deployments,statefulsets,jobs", json.dumps({"items": [deployment]}))
    assert cluster("status").exit_code == 0


def test_a_missing_release_is_an_error_with_the_command_that_installs_it(cluster: Command) -> None:
    cluster.respond("get deployments,statefulsets,jobs", json.dumps({"items": []}))
    cluster.respond("get values phaseflow", code=1, error="Error: release: not found\n")
    for line in ("status", "urls"):
        result = CliRunner().invoke(app, [*cluster.options, "--namespace", "shop", line])
        assert result.exit_code == 2
        assert result.stderr == (
            "error: There is no release 'phaseflow' in the namespace 'shop'.\n"
            "fix: Install it with `phaseflow --context kind-test --namespace shop up`, or name yours: "
            "`phaseflow --context NAME --namespace NAMESPACE --release NAME`\n"
        )


def test_an_unknown_context_is_an_error_with_the_closest_name(cluster: Command) -> None:
    """The outputs are those of kubectl and helm."""
    cluster.respond(
        "get deployments",
        code=1,
        error="Error in configuration: context was not found for specified context: kind-test\n",
    )
    cluster.respond(
        "get values", code=1, error='Error: kubernetes cluster unreachable: context "kind-test" does not exist\n'
    )
    cluster.respond("config get-contexts", "kind-tests\nproduction\n")
    for line in ("status", "urls"):
        assert cluster(line).stderr == (
            "error: The kubeconfig has no context 'kind-test'; available: kind-tests, production.\n"
            'fix: Did you mean "kind-tests"?\n'
        )


def test_logs_of_pods_are_printed_by_kubectl(cluster: Command) -> None:
    items = [{"kind": "Deployment", "metadata": {"name": "phaseflow-portal"}}]
    cluster.respond("get deployments,statefulsets ", json.dumps({"items": items}))
    cluster.respond("logs deployment/phaseflow-portal")
    assert cluster("logs portal --lines 5").exit_code == 0
    options = ["--all-pods", "--all-containers", "--prefix", "--ignore-errors", "--tail=5"]
    assert cluster.calls()[-1] == ["kubectl", "logs", "deployment/phaseflow-portal", *options]
    assert cluster("logs portl").stderr.endswith('fix: Did you mean "portal"?\n')


def test_logs_of_processes_are_the_ends_of_files(local: Command, capfd: pytest.CaptureFixture[str]) -> None:
    assert local("logs").stderr == "error: There are no logs.\nfix: Start the platform with `phaseflow up`\n"
    folder = from_environment().home / "logs"
    folder.mkdir()
    (folder / "serving.log").write_text("first\nlast\n")
    assert local("logs serving --lines 1").exit_code == 0
    assert capfd.readouterr().out == "last\n"
    assert local("logs servin").stderr == (
        "error: There is no log 'servin'; available: serving.\nfix: Did you mean \"serving\"?\n"
    )


def test_down_keeps_the_data_unless_told_otherwise(cluster: Command) -> None:
    cluster.respond("uninstall")
    cluster.respond("delete")
    assert cluster("down").stdout == "stopping\nuninstalled; volumes and passwords are kept\n"
    assert cluster("down --data").stdout == "stopping\nuninstalled, data included\n"
    assert [call[1] for call in cluster.calls()] == ["uninstall", "uninstall", *["delete"] * 5]


def test_without_a_platform_the_commands_of_this_machine_say_so(local: Command) -> None:
    assert local("down").stdout == "stopping\nnothing ran\n"
    assert json.loads(local("down --json").stdout) == {"stopped": False, "ended_one_by_one": 0}
    result = local("status")
    assert (result.exit_code, result.stdout) == (1, "nothing runs; start it with `phaseflow up`\n")


def test_doctor_checks_this_machine_or_the_cluster(local: Command, cluster: Command) -> None:
    subjects = {finding["subject"] for finding in json.loads(local("doctor --json").stdout)}
    assert {"memory", "ports", "prometheus"} <= subjects
    assert {"kubectl", "kind"} <= {finding["subject"] for finding in json.loads(local("doctor --kind --json").stdout)}
    cluster.respond("version --output json", code=1, error="The connection to the server was refused")
    result = cluster("doctor --json")
    assert result.exit_code == 1
    assert {finding["subject"] for finding in json.loads(result.stdout)} == {"kubectl", "helm", "cluster"}


def test_projects_are_listed(local: Command) -> None:
    assert "titanic" in local("projects").stdout
    assert {project["name"] for project in json.loads(local("projects --json").stdout)} >= {"titanic", "house_prices"}


def test_new_reports_the_scaffolds_error_and_writes_a_project(local: Command, tmp_path: Path) -> None:
    assert local(f"new shop --into {tmp_path}").stderr == (
        "error: There is no input for the project.\nfix: Give --csv FILE --target COLUMN, or --images FOLDER.\n"
    )
    rows = "".join(f"{index * 37 % 101},{index % 7},{'yes' if index % 7 > 3 else 'no'}\n" for index in range(400))
    (tmp_path / "shop.csv").write_text(f"number,size,bought\n{rows}")
    result = local(f"new shop --csv {tmp_path / 'shop.csv'} --target bougt --into {tmp_path}")
    assert 'fix: Did you mean "bought"?' in result.stderr
    assert local(f"new shop --csv {tmp_path / 'shop.csv'} --target bought --into {tmp_path}").exit_code == 0
    assert (tmp_path / "shop" / "project.py").exists()
