"""Help, examples, reference page and wrong use of every command."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import reference, variables
from cli.app import app
from phaseflow.settings import ROOT
from phaseflow.tests.sources import files
from phaseflow.tests.test_pages import parse

COMMANDS = reference.commands()
PROJECT_COMMANDS = ("demo", "run", "trigger", "traffic", "promote", "rollback", "clean", "forget")


def run(line: str, **environment: str) -> Result:
    return CliRunner().invoke(app, shlex.split(line), env=environment)


def errors_of(line: str, **environment: str) -> str:
    """What a wrong command line prints to stderr; its exit status must be 2."""
    result = run(line, **environment)
    assert result.exit_code == 2, result.output
    return result.stderr.strip()


def test_the_command_alone_prints_its_help() -> None:
    result = run("")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)
    assert "cluster " not in result.stdout.partition("Options")[2]  # the old command is hidden


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_indented_example(name: str) -> None:
    result = run(f"{name} --help")
    assert result.exit_code == 0
    assert COMMANDS[name].help.splitlines()[0] in " ".join(result.stdout.split())
    assert re.search(rf"\n +Example: +\n {{3,}}phaseflow (--context \S+ )?{name}\b", result.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_parses(name: str) -> None:
    examples = reference.examples(COMMANDS[name])
    assert examples
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "phaseflow"
        assert name in words
        parse(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_has_help_and_is_in_the_reference(name: str) -> None:
    page = (reference.FOLDER / "cli.md").read_text()
    section = page.partition(f"## `phaseflow {name}`\n")[2].partition("\n## ")[0]
    for parameter in COMMANDS[name].params:
        if parameter.name != "help":
            assert parameter.help, parameter.name
            option = parameter.param_type_name == "option"
            assert f"`{parameter.opts[0] if option else parameter.name.upper()}`" in section


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_an_error(name: str) -> None:
    assert errors_of(f"{name} --jsn").splitlines()[0] == f"error: `phaseflow {name}` has no option --jsn."


@pytest.mark.parametrize(
    ("line", "problem", "fix"),
    [
        ("trafic titanic", "phaseflow has no command 'trafic'.", 'Did you mean "traffic"?'),
        ("xyz", "phaseflow has no command 'xyz'.", "`phaseflow --help` lists the commands."),
        ("traffic titanic --drft", "`phaseflow traffic` has no option --drft.", 'Did you mean "--drift"?'),
        ("--contxt a up", "`phaseflow` has no option --contxt.", 'Did you mean "--context"?'),
        ("traffic", "Missing argument 'PROJECT'.", "`phaseflow traffic --help` describes each argument."),
        (
            "up --profile smal",
            "Invalid value for '--profile': 'smal' is not one of 'small', 'kind', 'production'.",
            'Did you mean "small"?',
        ),
        (
            "new shop --task regresion",
            "Invalid value for '--task': 'regresion' is not one of 'classification', 'regression'.",
            'Did you mean "regression"?',
        ),
        (
            "trigger titanic --context kind-a",
            "--context selects the platform of every command, so it precedes the command.",
            "`phaseflow --context NAME trigger …`",
        ),
        (
            "status -n shop",
            "-n selects the platform of every command, so it precedes the command.",
            "`phaseflow --namespace NAME status …`",
        ),
        (
            "--namespace shop status",
            "--namespace selects a release on a Kubernetes cluster, and the context is this machine.",
            "`phaseflow --context NAME --namespace shop status …`; `kubectl config get-contexts` lists the contexts.",
        ),
    ],
)
def test_wrong_use_is_an_error_with_a_fix(line: str, problem: str, fix: str) -> None:
    assert errors_of(line) == f"error: {problem}\nfix: {fix}"


@pytest.mark.parametrize("name", PROJECT_COMMANDS)
def test_an_unknown_project_is_an_error_with_the_closest_name(name: str) -> None:
    text = errors_of(f"{name} titanc{' r-1' if name == 'forget' else ''}")
    assert text.startswith("error: There is no project 'titanc'; found: ")
    assert text.endswith('fix: Did you mean "titanic"?')


@pytest.mark.parametrize(
    ("line", "replacement"),
    [
        ("cluster trigger titanic --wait", "phaseflow --context NAME trigger titanic --wait"),
        (
            "cluster up --namespace shop --profile small --context kind-a",
            "phaseflow --namespace shop --context kind-a up --profile small",
        ),
        ("cluster --help", "phaseflow --context NAME --help"),
        ("cluster", "phaseflow --context NAME --help"),
    ],
)
def test_the_old_group_cluster_names_the_new_command(line: str, replacement: str) -> None:
    assert errors_of(line) == (
        "error: `phaseflow cluster` is replaced by the option --context of every command.\n"
        f"fix: `{replacement}`; `kubectl config get-contexts` lists the contexts."
    )


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("run titanic", "Start the project's DAG: `phaseflow --context kind-a trigger titanic`"),
        (
            "clean",
            "On Kubernetes, trigger the DAG `clean` in Airflow: `phaseflow --context kind-a urls` shows its address.",
        ),
        (
            "forget titanic r-1",
            "On Kubernetes, trigger the DAG `forget` in Airflow: `phaseflow --context kind-a urls` shows its address.",
        ),
    ],
)
def test_a_command_of_this_machine_names_what_to_do_on_a_cluster(line: str, fix: str) -> None:
    problem = f"`phaseflow {line.split(maxsplit=1)[0]}` works on this machine only, and the context is 'kind-a'."
    assert errors_of(f"--context kind-a {line}") == f"error: {problem}\nfix: {fix}"
    assert errors_of(line, PHASEFLOW_CONTEXT="kind-a") == f"error: {problem}\nfix: {fix}"


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_a_command_of_a_cluster_asks_for_its_context(name: str) -> None:
    assert errors_of(f"--context local {name}", PHASEFLOW_CONTEXT="kind-a") == (
        f"error: `phaseflow {name}` works on a Kubernetes cluster only.\n"
        f"fix: Name its context: `phaseflow --context NAME {name}`. `kubectl config get-contexts` lists the contexts."
    )


@pytest.mark.parametrize(
    "line", ["up --profile small", "up --rehearsal", "up --set a=b", "up -f values.yaml", "doctor --images"]
)
def test_an_option_of_a_cluster_asks_for_its_context(line: str) -> None:
    name, option, *_ = line.replace("-f ", "--values ").split()
    assert errors_of(line) == (
        f"error: {option} of `phaseflow {name}` applies to a Kubernetes cluster only.\n"
        f"fix: Name its context: `phaseflow --context NAME {name} {option}`. "
        "`kubectl config get-contexts` lists the contexts."
    )


def test_other_options_of_one_platform_name_what_to_do() -> None:
    assert errors_of("down --data").endswith("fix: Delete the local data with `make clean`")
    assert errors_of("--context kind-a doctor --kind").endswith(
        "fix: Omit --kind, or use `phaseflow --context local doctor --kind`"
    )


def test_an_unknown_setting_is_a_warning_with_the_closest_name() -> None:
    result = run("status", PHASEFLOW_PORT_OFSET="1000", PHASEFLOW_XYZ="1", PHASEFLOW_SECRET_HOOK_TOKEN_FILE="/x")
    assert result.stdout == "nothing runs; start it with `phaseflow up`\n"
    assert result.stderr.splitlines() == [
        'warning: PHASEFLOW_PORT_OFSET is not a setting, and nothing reads it. Did you mean "PHASEFLOW_PORT_OFFSET"?',
        "warning: PHASEFLOW_XYZ is not a setting, and nothing reads it. docs/reference/settings.md lists the settings.",
    ]


def test_each_variable_that_the_code_reads_has_no_warning() -> None:
    """Names that end with `_` are prefixes."""
    names: set[str] = set()
    for path in (*files(".py"), *(ROOT / "bin").iterdir(), *files(".tpl")):
        if path.is_file() and "tests" not in path.relative_to(ROOT).parts:
            names |= set(re.findall(r"\bPHASEFLOW_[A-Z0-9_]*[A-Z0-9]\b(?!_)", path.read_text()))
    assert len(names) > 30
    assert list(variables.warnings(dict.fromkeys(names, ""))) == []


def test_a_name_of_the_selection_is_no_setting_of_the_programs(tmp_path: Path) -> None:
    from cli.local import supervisor
    from phaseflow.settings import from_environment

    os.environ |= dict.fromkeys(variables.SELECTION, "x")
    assert not supervisor.environment(from_environment()).keys() & {*variables.SELECTION}
