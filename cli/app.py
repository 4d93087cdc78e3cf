"""The `phaseflow` command: its options, and the list of its commands."""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

import typer

from cli import show, usage, variables
from cli.commands import platform, projects
from cli.kubernetes.kube import DEFAULT
from cli.local import fresh_home
from cli.selection import LIST_CONTEXTS, LOCAL, Selection
from phaseflow import __version__
from phaseflow.errors import PermanentError

app = typer.Typer(
    name="phaseflow",
    cls=usage.Group,
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
PLATFORM: Final = "The platform"
PROJECTS: Final = "Projects"
GROUPS: Final[dict[str, tuple[Any, ...]]] = {
    PLATFORM: (
        platform.demo,
        platform.up,
        platform.down,
        platform.status,
        platform.urls,
        platform.logs,
        platform.doctor,
        platform.backup,
        platform.restore,
    ),
    PROJECTS: (
        projects.projects,
        projects.run,
        projects.trigger,
        projects.traffic,
        projects.promote,
        projects.rollback,
        projects.clean,
        projects.forget,
        projects.new,
    ),
}
for title, functions in GROUPS.items():
    for function in functions:
        app.command(rich_help_panel=title)(function)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"phaseflow {__version__}")
        raise typer.Exit


@app.callback()
def select(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Option(
            "--context", envvar=variables.SELECTION[0], help="A context of your kubeconfig; `local` is this machine."
        ),
    ] = LOCAL,
    namespace: Annotated[
        str,
        typer.Option("--namespace", "-n", envvar=variables.SELECTION[1], help="Kubernetes: namespace of the release."),
    ] = DEFAULT,
    release: Annotated[
        str, typer.Option("--release", envvar=variables.SELECTION[2], help="Kubernetes: name of the Helm release.")
    ] = DEFAULT,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The MLOps loop, on one machine and on Kubernetes: Airflow, Kubeflow Pipelines, MLflow, BentoML, Prometheus, Evidently.

    Commands work on this machine, or with --context on a release in a Kubernetes cluster.

    Example:
        phaseflow demo
        phaseflow --context kind-phaseflow status

    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit
    selection = Selection(context=name, namespace=namespace, release=release)
    context.obj = selection
    for option, value in (("namespace", namespace), ("release", release)):
        source = context.get_parameter_source(option)
        if selection.local and source is not None and source.name == "COMMANDLINE":
            raise PermanentError(
                f"--{option} selects a release on a Kubernetes cluster, and the context is this machine",
                fix=f"`phaseflow --context NAME --{option} {value} {context.invoked_subcommand} …`; {LIST_CONTEXTS}",
            )
    for warning in variables.warnings(os.environ):
        show.errors.print(f"[bold yellow]warning:[/] {warning}", soft_wrap=True)
    if selection.local and context.invoked_subcommand != "demo":  # a demo moves the home aside
        fresh_home.load()


@app.command(
    "cluster",
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def cluster(context: typer.Context) -> None:
    """Name the command that replaces one of version 0.1.0."""
    options: list[str] = []
    words: list[str] = []
    arguments = iter(context.args)
    for argument in arguments:
        if argument in {"--context", "--namespace", "-n", "--release"}:
            options += [argument, next(arguments, "NAME")]
        else:
            words.append(argument)
    if "--context" not in options:
        options = ["--context", "NAME", *options]
    raise PermanentError(
        "`phaseflow cluster` is replaced by the option --context of every command",
        fix=f"`{' '.join(['phaseflow', *options, *(words or ['--help'])])}`; {LIST_CONTEXTS}",
    )
