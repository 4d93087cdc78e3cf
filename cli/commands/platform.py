"""Commands on the platform itself."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import show
from cli.commands.options import Json, Profile, Project, ShowPasswords, selection
from cli.demo.settings import DEFAULT_PROJECT
from cli.kubernetes import backup as backups
from cli.kubernetes import doctor as cluster_checks
from cli.kubernetes import engine
from cli.kubernetes import images as image_checks
from cli.platforms import ChartValues
from phaseflow import discovery
from phaseflow.errors import PermanentError, PlatformError, suggestion

KIND_PROGRAMS: Final = ("kubectl", "helm", "docker", "kind")
"""Programs for a cluster by kind."""


def demo(
    context: typer.Context,
    project: Project = DEFAULT_PROJECT,
    show_passwords: ShowPasswords = False,
    as_json: Json = False,
) -> None:
    """Run the whole loop once: train, serve, drift, alert, retrain, swap.

    The platform keeps running afterwards. On this machine, the demo starts with an empty home, and moves the old one aside.

    Example:
        phaseflow demo
        phaseflow --context kind-phaseflow demo titanic

    """
    from cli.demo import report, run  # noqa: PLC0415  # for one command

    definition = discovery.get(project)
    platform = selection(context).platform()
    result = run.run(platform, definition, quiet=as_json)
    if as_json:
        show.data(result)
    elif result["ok"]:
        report.summary(result, definition)
        show.pages(platform.pages(passwords=show_passwords))
        report.next_steps(platform.command, platform.settings(), definition)
    if not result["ok"]:
        raise typer.Exit(1)


def up(
    context: typer.Context,
    profile: Annotated[
        Profile | None,
        typer.Option(help="Kubernetes: use the chart's values-PROFILE.yaml; default: small.", show_default=False),
    ] = None,
    rehearsal: Annotated[
        bool,
        typer.Option(
            "--rehearsal", help="Kubernetes: evaluate drift over one minute instead of one hour, and use sample data."
        ),
    ] = False,
    values: Annotated[list[Path], typer.Option("--values", "-f", help="Kubernetes: additional values files.")] = [],  # noqa: B006
    sets: Annotated[list[str], typer.Option("--set", help="Kubernetes: a chart value, as KEY=VALUE.")] = [],  # noqa: B006
    show_passwords: ShowPasswords = False,
    as_json: Json = False,
) -> None:
    """Start the platform, and wait until every part is ready.

    A running platform is upgraded. If a part can't start, the error names the reason.

    Example:
        phaseflow up
        phaseflow --context kind-phaseflow up --profile small --set serving.replicas=2

    """
    chosen = selection(context)
    cluster_options = {"--profile": profile, "--rehearsal": rehearsal, "--values": values, "--set": sets}
    chosen.refuse_cluster_options("up", cluster_options)
    platform = chosen.platform()
    chart_values = ChartValues(
        profile=profile or Profile.SMALL, rehearsal=rehearsal, files=tuple(values), sets=tuple(sets)
    )
    with show.starting(quiet=as_json) as watch:
        remarks = platform.up(chart_values, watch)
    if as_json:
        show.data(platform.status())
        return
    for remark in remarks:
        show.console.print(remark, soft_wrap=True)
    show.pages(platform.pages(passwords=show_passwords))


def down(
    context: typer.Context,
    data: Annotated[
        bool, typer.Option("--data", help="Kubernetes: also delete the volumes and the passwords. Backups are kept.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop the platform and keep its data.

    The next `up` uses the data again.

    Example:
        phaseflow down
        phaseflow --context kind-phaseflow down --data

    """
    chosen = selection(context)
    if chosen.local and data:
        raise PermanentError(
            "--data of `phaseflow down` applies to a Kubernetes cluster only",
            fix="Delete the local data with `make clean`",
        )
    with show.working("stopping", quiet=as_json):
        outcome = chosen.platform().down(data=data)
    if as_json:
        show.data(outcome.data)
    else:
        show.console.print(outcome.text, soft_wrap=True)


def status(context: typer.Context, as_json: Json = False) -> None:
    """Show the state of each part.

    On Kubernetes, also show why a part is not ready. The exit status is 1 if a part is not healthy.

    Example:
        phaseflow status
        phaseflow --context kind-phaseflow status --json

    """
    platform = selection(context).platform()
    current = platform.status()
    if as_json:
        show.data(current)
    else:
        platform.show_status(current)
    if not platform.healthy(current):
        raise typer.Exit(1)


def urls(context: typer.Context, show_passwords: ShowPasswords = False, as_json: Json = False) -> None:
    """List every page with its user, and where its password is.

    Passwords are files on this machine, and Secrets on Kubernetes.

    Example:
        phaseflow urls
        phaseflow --context kind-phaseflow urls --show-passwords

    """
    pages = selection(context).platform().pages(passwords=show_passwords)
    if as_json:
        show.data([asdict(page) for page in pages])
    else:
        show.pages(pages)


def logs(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A part that `phaseflow status` lists; default: all of them.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Number of lines from the end of each log.")] = 40,
) -> None:
    """Print the last lines of the logs.

    On Kubernetes, these are the logs of the pods.

    Example:
        phaseflow logs serving --follow
        phaseflow --context kind-phaseflow logs airflow-scheduler --lines 100

    """
    platform = selection(context).platform()
    names = sorted(platform.log_names())
    if not names:
        raise PlatformError("There are no logs", fix=f"Start the platform with `{platform.command} up`")
    if name and name not in names:
        raise PermanentError(
            f"There is no log {name!r}; available: {', '.join(names)}",
            fix=suggestion(name, names) or "Name one of them, or omit the name to print all logs",
        )
    raise typer.Exit(platform.print_logs([name] if name else names, lines=lines, follow=follow))


def doctor(
    context: typer.Context,
    profile: Annotated[
        Profile | None,
        typer.Option(help="Kubernetes: the profile that you want to install; default: small.", show_default=False),
    ] = None,
    kind: Annotated[bool, typer.Option("--kind", help="Check this machine for a cluster made by kind.")] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Kubernetes: also check that the registries have every image.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the requirements of the platform, and show fixes.

    The exit status is 1 if a required check fails.

    Example:
        phaseflow doctor
        phaseflow doctor --kind --images
        phaseflow --context kind-phaseflow doctor --profile production

    """
    chosen = selection(context)
    if kind and not chosen.local:
        raise PermanentError(
            f"--kind checks this machine, and the context is {chosen.context!r}",
            fix="Omit --kind, or use `phaseflow --context local doctor --kind`",
        )
    if not kind:
        chosen.refuse_cluster_options("doctor", {"--profile": profile, "--images": images})
    with show.working("checking", quiet=True):
        if kind:
            programs = list(cluster_checks.programs(KIND_PROGRAMS))
            findings = [*programs, *cluster_checks.machine()]
            if all(finding.ok for finding in programs):
                findings += engine.findings(profile or Profile.SMALL)
        else:
            findings = chosen.platform().findings(profile or Profile.SMALL)
        if images:
            architectures = (
                frozenset({cluster_checks.this_architecture()})
                if kind
                else cluster_checks.architectures(chosen.require_cluster("doctor"))
            )
            findings += image_checks.findings(profile or Profile.SMALL, architectures)
    if as_json:
        show.data([asdict(finding) for finding in findings])
    else:
        show.findings(findings)
    if any(finding.required and not finding.ok for finding in findings):
        raise typer.Exit(1)


def backup(context: typer.Context) -> None:
    """Back up the databases and objects now (Kubernetes only).

    This starts the same Job as every night.

    Example:
        phaseflow --context kind-phaseflow backup

    """
    release = selection(context).require_cluster("backup")
    with show.working("backing up") as say:
        message = backups.save(release, say)
    show.console.print(message, markup=False)


def restore(
    context: typer.Context,
    at: Annotated[
        str,
        typer.Option(
            help="Name of a backup, such as 20260102T030405Z; default: the newest. An unknown name lists the backups."
        ),
    ] = "",
) -> None:
    """Restore a backup (Kubernetes only).

    The backup replaces the current runs, models, champions and the prediction log.

    Example:
        phaseflow --context kind-phaseflow restore --at 20260102T030405Z

    """
    release = selection(context).require_cluster("restore")
    with show.working("restoring") as say:
        message = backups.restore(release, at, say)
    show.console.print(message, markup=False)
