"""`phaseflow cluster`: the platform on Kubernetes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from phaseflow import registry
from phaseflow.cli import show, stage, work
from phaseflow.cluster import access, backup, install, kube
from phaseflow.cluster import doctor as checks
from phaseflow.cluster.kube import Release
from phaseflow.embedded.machine import Finding
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT

app = typer.Typer(
    name="cluster",
    help="The platform on Kubernetes: the cluster that KUBECONFIG names, by helm and kubectl.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Name = Annotated[str, typer.Option("--release", help="Name of the release.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")]
Context = Annotated[str, typer.Option("--context", help="Of the kubeconfig; its current one where none is named.")]
Json = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="As `phaseflow projects` lists it.")]
HELM: Final = ROOT / "helm" / "platform"


class Profile(StrEnum):
    """Values of the chart by what is at hand: `values-<profile>.yaml`."""

    SMALL = "small"
    KIND = "kind"
    PRODUCTION = "production"


@app.command()
def doctor(
    profile: Annotated[Profile, typer.Option(help="What is to be installed.")] = Profile.SMALL,
    kind: Annotated[
        bool, typer.Option("--kind", help="Look at this machine, on which kind is to make a cluster.")
    ] = False,
    images: Annotated[bool, typer.Option("--images", help="Ask the registries for every image.")] = False,
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """What the cluster must have, and how to get what is missing. Ends with 1 when something required is."""
    target = Release(name=release, namespace=namespace, context=context)
    found = list(checks.programs(("kubectl", "helm", *(("docker", "kind") if kind else ()))))
    if kind:
        found += checks.machine()
    elif all(finding.ok for finding in found):
        found += checks.cluster(target, profile)
    if images:
        found += _images(without=["kubeflow-pipelines"] if profile is Profile.SMALL else [])
    if as_json:
        show.data([{slot: getattr(item, slot) for slot in item.__slots__} for item in found])
    else:
        show.findings(found)
    if any(item.required and not item.ok for item in found):
        raise typer.Exit(1)


def _images(*, without: list[str]) -> Iterable[Finding]:
    """Whether the registry of each third-party image answers for it."""
    left_out = [word for chart in without for word in ("--without", chart)]
    done = subprocess.run(
        [sys.executable, "-m", "helm", "reach", *left_out], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PlatformError(done.stderr.strip() or "The images can't be looked at", fix="Run `python -m helm reach`")
    for reference, problem in json.loads(done.stdout).items():
        fix = "Name a registry that has it by `global.images.registry`; `make mirror REGISTRY=…` fills one"
        yield Finding(subject=reference, ok=not problem, found=problem or "there", fix=fix if problem else "")


@app.command()
def up(
    profile: Annotated[Profile, typer.Option(help="values-<profile>.yaml of the chart.")] = Profile.SMALL,
    rehearsal: Annotated[
        bool, typer.Option("--rehearsal", help="Judge drift over a minute, not an hour, and use samples.")
    ] = False,
    values: Annotated[list[Path], typer.Option("--values", "-f", help="Further files of values.")] = [],  # noqa: B006  # Typer's
    sets: Annotated[list[str], typer.Option("--set", help="A value: key=value.")] = [],  # noqa: B006
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
) -> None:
    """Install or upgrade, and wait until every part is ready; says why where one can't be."""
    target = Release(name=release, namespace=namespace, context=context)
    files = [HELM / f"values-{profile.value}.yaml", *([HELM / "values-rehearsal.yaml"] if rehearsal else []), *values]
    begun = time.monotonic()
    with show.starting() as watch:
        install.up(target, files, sets, watch)
    show.console.print(f"ready after {show.duration(time.monotonic() - begun)}")
    _urls(target, passwords=False)


@app.command()
def down(
    data: Annotated[bool, typer.Option("--data", help="The volumes and the passwords too.")] = False,
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
) -> None:
    """Uninstall; volumes and passwords stay, and the next `up` finds them."""
    with show.working("uninstalls"):
        install.down(Release(name=release, namespace=namespace, context=context), data=data)
    show.console.print("uninstalled, with its data" if data else "uninstalled; its volumes and passwords stay")


@app.command()
def status(
    release: Name = "phaseflow", namespace: Namespace = "phaseflow", context: Context = "", as_json: Json = False
) -> None:
    """What is not ready, and why. Ends with 1 when something is not."""
    target = Release(name=release, namespace=namespace, context=context)
    states, why = install.states(target), install.explain(target)
    if as_json:
        told = [{slot: getattr(reason, slot) for slot in reason.__slots__} for reason in why]
        show.data({"ready": states, "reasons": told})
    else:
        show.table("", ("", "part"), [(show.mark(ok), name) for name, ok in sorted(states.items())])
        for reason in why:
            show.errors.print(f"{reason.what}: {reason.problem}\nfix: {reason.fix}", markup=False, soft_wrap=True)
    if not states:
        raise PlatformError(
            f"There is no release {target.name!r} in the namespace {target.namespace!r}",
            fix="Install it with `phaseflow cluster up`, or name yours: `--release NAME --namespace NAMESPACE`",
        )
    if not all(states.values()):
        raise typer.Exit(1)


@app.command()
def urls(
    show_passwords: Annotated[
        bool, typer.Option("--show-passwords", help="Print them, not only where they are.")
    ] = False,
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Every page, its user, and the command that prints its password."""
    target = Release(name=release, namespace=namespace, context=context)
    if as_json:
        show.data(access.urls(target, passwords=show_passwords))
    else:
        _urls(target, passwords=show_passwords)


def _urls(target: Release, *, passwords: bool) -> None:
    pages = access.urls(target, passwords=passwords)
    show.table(
        "",
        ("page", "address", "user", "password"),
        [
            (p["name"], f"[link={p['url']}]{p['url']}[/]", p["user"], p["password"] or p["password_command"])
            for p in pages
        ],
    )


@app.command()
def demo(
    project: Project = stage.PROJECT,
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """One real turn of the loop on the cluster, as `phaseflow demo` plays it on one machine."""
    from phaseflow.cli import demo as story  # noqa: PLC0415  # the largest module, for one command

    played = registry.get(project)
    target = Release(name=release, namespace=namespace, context=context)
    told = story.on(_stage(target, project), played, quiet=as_json)
    if as_json:
        show.data(told)
    elif told["ok"]:
        story.summary(told, played)
    if not told["ok"]:
        raise typer.Exit(1)


def _stage(target: Release, project: str) -> stage.Stage:
    from phaseflow.embedded import rest  # noqa: PLC0415

    settings = access.settings(target)
    if (settings.drift_window_seconds or 3600) > 600:
        raise PlatformError(
            "The release judges drift over hours: the demo would last as long",
            fix="Install it with `phaseflow cluster up --rehearsal`",
        )

    def start(say: Any) -> str:
        say("waits until every part is ready")
        install.wait(target, lambda *_: None, time.monotonic())
        if rest.served(settings, project):
            raise PlatformError(
                f"This release serves a champion of {project} already, and the story begins before the first one",
                fix="`phaseflow cluster down --data`, then `phaseflow cluster up --rehearsal`; "
                f"or go on with `phaseflow cluster traffic {project} --drift --feedback`",
            )
        return f"{len(install.states(target))} parts in the namespace {target.namespace}"

    return stage.Stage(
        settings=settings,
        start=start,
        log=lambda part: (
            "`phaseflow cluster status`"
            if part == "supervisord"
            else f"`kubectl -n {target.namespace} logs {install.workload(target, part, project)}`"
        ),
        tail=lambda part: install.tail(target, part, project),
        memory_mb=lambda: install.memory_mb(target),
        again=f"`phaseflow cluster demo {project}` again",
    )


@app.command()
def trigger(
    project: Project,
    wait: Annotated[bool, typer.Option("--wait", help="Until the run ends; 1 when it fails.")] = False,
    reason: Annotated[str, typer.Option(help="Kept with the run.")] = "by hand",
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Start the project's DAG by Airflow's REST API."""
    registry.get(project)
    settings = access.settings(Release(name=release, namespace=namespace, context=context))
    with show.working(f"{project}: triggers its DAG", quiet=as_json) as say:
        found = work.trigger(settings, project, reason, wait=wait, say=say)
    work.show_run(found, as_json=as_json)
    if wait and found["state"] != "success":
        raise typer.Exit(1)


@app.command()
def traffic(
    project: Project,
    rows: Annotated[int, typer.Option(help="How many; 0 goes on until Ctrl-C.")] = 0,
    rate: Annotated[float, typer.Option(help="Rows a second; 0 is as fast as answers come.")] = 20.0,
    drift: Annotated[bool, typer.Option("--drift", help="From the changed world that the project declares.")] = False,
    feedback: Annotated[bool, typer.Option("--feedback", help="Tell the truth afterwards.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed sends the same rows.")] = 1,
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Play the world through the front door. Ends with 1 when a request failed."""
    declared = registry.get(project)
    settings = access.settings(Release(name=release, namespace=namespace, context=context))
    arguments = work.traffic_arguments(rows=rows, rate=rate, seed=seed, drift=drift, feedback=feedback)
    with show.working(f"{project}: reads its data", quiet=as_json) as say:
        summary = work.traffic(settings, declared, arguments, say)
    work.show_traffic(summary, as_json=as_json)
    if summary["failed"]:
        raise typer.Exit(1)


@app.command()
def promote(
    project: Project,
    version: Annotated[str, typer.Argument(help="Of MLflow; the challenger where none is named.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also one that the gate refused.")] = False,
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Make a version champion; the service swaps to it."""
    registry.get(project)
    arguments = ["promote", "--project", project, *(["--version", version] if version else []), *["--force"] * force]
    _moved(Release(name=release, namespace=namespace, context=context), arguments, as_json=as_json)


@app.command()
def rollback(
    project: Project,
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Make the previous champion the champion again."""
    registry.get(project)
    arguments = ["rollback", "--project", project]
    _moved(Release(name=release, namespace=namespace, context=context), arguments, as_json=as_json)


def _moved(target: Release, arguments: list[str], *, as_json: bool) -> None:
    """In MLflow's own pod: its image is the registry's, and it may read the store."""
    with show.working(arguments[0], quiet=as_json):
        pod = f"deployment/{target.name}-mlflow"
        said = kube.kubectl(target, "exec", pod, "--", "python", "-m", "services.registry", *arguments)
    work.show_moved(json.loads(said), as_json=as_json)


@app.command(name="backup")
def backup_now(release: Name = "phaseflow", namespace: Namespace = "phaseflow", context: Context = "") -> None:
    """Back up now what the nightly job does: databases and objects."""
    target = Release(name=release, namespace=namespace, context=context)
    with show.working("backs up") as say:
        said = backup.save(target, say)
    show.console.print(said, markup=False)


@app.command()
def restore(
    at: Annotated[
        str,
        typer.Option(
            help="A backup's name, such as 20260102T030405Z; the last where none is named. A wrong one is answered with those that there are."
        ),
    ] = "",
    release: Name = "phaseflow",
    namespace: Namespace = "phaseflow",
    context: Context = "",
) -> None:
    """Bring back runs, models, champions and the prediction log. What is there of them now is replaced."""
    target = Release(name=release, namespace=namespace, context=context)
    with show.working("restores") as say:
        said = backup.restore(target, at, say)
    show.console.print(said, markup=False)
