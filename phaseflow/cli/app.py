"""The commands. Each asks `phaseflow.embedded` and shows what it says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from phaseflow import registry
from phaseflow.cli import cluster, retention, show, stage, work
from phaseflow.embedded import components, lifecycle, platform, report, supervisor
from phaseflow.embedded import doctor as checks
from phaseflow.errors import PlatformError, suggestion
from phaseflow.settings import from_environment

app = typer.Typer(
    name="phaseflow",
    help="The MLOps loop, on one machine and on Kubernetes: Airflow, Kubeflow Pipelines, MLflow, BentoML, Prometheus, Evidently.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(cluster.app, rich_help_panel="Kubernetes")
PLATFORM = "The platform"
PROJECTS = "Projects"

Json = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]
ShowPasswords = Annotated[bool, typer.Option("--show-passwords", help="Print them, not only where they are.")]
Name = Annotated[str, typer.Argument(metavar="PROJECT", help="As `phaseflow projects` lists it.")]


@app.command(rich_help_panel=PLATFORM)
def demo(name: Name = stage.PROJECT, show_passwords: ShowPasswords = False, as_json: Json = False) -> None:
    """One real turn of the loop: train, serve, drift, alert, retrain, swap. Leaves the platform up."""
    from phaseflow.cli import demo as story  # noqa: PLC0415  # the largest module, for one command

    project = registry.get(name)
    told = story.play(project, quiet=as_json)
    if as_json:
        show.data(told)
    elif told["ok"]:
        story.summary(told, project)
        _urls(passwords=show_passwords)
        story.next_steps(from_environment(), project)
    if not told["ok"]:
        raise typer.Exit(1)


@app.command(rich_help_panel=PLATFORM)
def up(show_passwords: ShowPasswords = False, as_json: Json = False) -> None:
    """Start what does not run, and wait until everything answers."""
    settings = from_environment()
    with show.starting(quiet=as_json) as watch:
        absent = platform.up(settings, watch)
    if as_json:
        show.data(report.status(settings))
        return
    for name, how in absent.items():
        show.console.print(f"{show.mark(None)} {name}: not on this machine. {how}.", soft_wrap=True)
    _urls(passwords=show_passwords)


@app.command(rich_help_panel=PLATFORM)
def down(as_json: Json = False) -> None:
    """Stop everything; the data stays."""
    settings = from_environment()
    was = supervisor.running(settings)
    with show.working("stopping", quiet=as_json):
        forced = lifecycle.down(settings)
    if as_json:
        show.data({"stopped": was, "ended_one_by_one": forced})
    else:
        show.console.print("stopped; the data stays in " + str(settings.home) if was or forced else "nothing ran")


@app.command(rich_help_panel=PLATFORM)
def status(as_json: Json = False) -> None:
    """The processes: state, memory, uptime, health. Ends with 1 when one is not well, or runs without a supervisor."""
    found = report.status(from_environment())
    if as_json:
        show.data(found)
    elif found["orphans"]:
        names = dict.fromkeys(orphan["name"] for orphan in found["orphans"])
        pids = {name: [str(o["pid"]) for o in found["orphans"] if o["name"] == name] for name in names}
        show.console.print(
            f"{show.mark(False)} supervisord is gone, and {len(found['orphans'])} processes run without it: "
            + "; ".join(f"{name} ({', '.join(each)})" for name, each in pids.items())
            + ". Nothing restarts them. `phaseflow up` ends them and starts everything again.",
            soft_wrap=True,
        )
    elif not found["programs"]:
        show.console.print("nothing runs; start it with `phaseflow up`")
    else:
        show.table(
            "",
            ("", "process", "state", "pid", "memory", "uptime", "what it is for"),
            [
                (
                    show.mark(item["healthy"]),
                    item["name"],
                    item["state"].lower(),
                    item["pid"] or "",
                    f"{item['memory_mb']:.0f} MB",
                    show.duration(item["uptime_seconds"]),
                    f"[dim]{item['what']}[/]",
                )
                for item in found["programs"]
            ],
        )
        show.console.print(f"[dim]{found['memory_mb'] / 1024:.2f} GiB in all[/]")
    if not found["programs"] or not all(item["healthy"] for item in found["programs"]):
        raise typer.Exit(1)


@app.command(rich_help_panel=PLATFORM)
def urls(show_passwords: ShowPasswords = False, as_json: Json = False) -> None:
    """Every page, its user, and where its password is."""
    if as_json:
        show.data(report.urls(from_environment(), passwords=show_passwords))
    else:
        _urls(passwords=show_passwords)


def _urls(*, passwords: bool) -> None:
    show.table(
        "",
        ("page", "address", "user", "password"),
        [
            (
                item["name"],
                f"[link={item['url']}]{item['url']}[/]",
                item["user"],
                item["password"] or item["password_file"],
            )
            for item in report.urls(from_environment(), passwords=passwords)
        ],
    )


@app.command(rich_help_panel=PLATFORM)
def logs(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A process; all of them where none is named.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they grow.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last.")] = 40,
) -> None:
    """The ends of the logs."""
    settings = from_environment()
    known = sorted(path.stem for path in (settings.home / "logs").glob("*.log"))
    if name and name not in known:
        raise PlatformError(
            f"There is no log {name!r}; found: {', '.join(known) or 'none'}",
            fix=suggestion(name, known) or "Name one of them, or none for all",
        )
    paths = [str(supervisor.log(settings, one)) for one in ([name] if name else known)]
    if not paths:
        raise PlatformError(f"{settings.home} holds no logs", fix="Start the platform with `phaseflow up`")
    raise typer.Exit(
        subprocess.run(  # `tail` is POSIX's: it is found by the PATH, wherever it is
            ["/usr/bin/env", "tail", *(["-F"] if follow else []), "-n", str(lines), *paths], check=False
        ).returncode
    )


@app.command(rich_help_panel=PLATFORM)
def doctor(as_json: Json = False) -> None:
    """What the machine must have, and how to get what is missing. Ends with 1 when something required is."""
    found = checks.examine(from_environment())
    if as_json:
        show.data([{slot: getattr(item, slot) for slot in item.__slots__} for item in found])
    else:
        show.findings(found)
    if any(item.required and not item.ok for item in found):
        raise typer.Exit(1)


@app.command(rich_help_panel=PROJECTS)
def projects(as_json: Json = False) -> None:
    """Every project that was found."""
    found = registry.all_projects()
    if as_json:
        show.data([project.to_dict() for project in found])
        return
    show.table(
        "",
        ("project", "title", "task", "phase", "candidates", "first metric"),
        [(p.name, p.title, p.task, p.phase, len(p.candidates), p.primary.name) for p in found],
    )


@app.command(rich_help_panel=PROJECTS)
def run(project: Name, as_json: Json = False) -> None:
    """ETL, pipeline, gate and promotion without Airflow; starts what that needs."""
    settings = from_environment()
    declared = registry.get(project)
    with show.starting(quiet=as_json) as watch:
        platform.ensure(settings, ("mlflow", "pipelines", "serving"), watch)
    with show.working(f"{project}: begins", quiet=as_json) as say:
        done = work.run(settings, declared, say)
    if as_json:
        show.data(done)
        return
    work.show_verdict(declared, done["verdict"])
    promotion = done["promotion"]
    show.console.print(
        f"version {promotion['version']} is champion and served"
        if promotion
        else "the champion stays: the gate says no to the best candidate"
    )


@app.command(rich_help_panel=PROJECTS)
def trigger(
    project: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Until the run ends; 1 when it fails.")] = False,
    reason: Annotated[str, typer.Option(help="Kept with the run.")] = "by hand",
    as_json: Json = False,
) -> None:
    """Start the project's DAG by Airflow's REST API."""
    settings = from_environment()
    registry.get(project)
    with show.working(f"{project}: triggers its DAG", quiet=as_json) as say:
        found = work.trigger(settings, project, reason, wait=wait, say=say)
    work.show_run(found, as_json=as_json)
    if wait and found["state"] != "success":
        raise typer.Exit(1)


@app.command(rich_help_panel=PROJECTS)
def traffic(
    project: Name,
    rows: Annotated[int, typer.Option(help="How many; 0 goes on until Ctrl-C.")] = 0,
    rate: Annotated[float, typer.Option(help="Rows a second; 0 is as fast as answers come.")] = 20.0,
    drift: Annotated[bool, typer.Option("--drift", help="From the changed world that the project declares.")] = False,
    feedback: Annotated[bool, typer.Option("--feedback", help="Tell the truth afterwards.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed sends the same rows.")] = 1,
    as_json: Json = False,
) -> None:
    """Play the world: send rows of the project's data to the service. Ends with 1 when a request failed."""
    settings = from_environment()
    declared = registry.get(project)
    arguments = work.traffic_arguments(rows=rows, rate=rate, seed=seed, drift=drift, feedback=feedback)
    with show.working(f"{project}: reads its data", quiet=as_json) as say:
        summary = work.traffic(settings, declared, arguments, say)
    work.show_traffic(summary, as_json=as_json)
    if summary["failed"]:
        raise typer.Exit(1)


@app.command(rich_help_panel=PROJECTS)
def promote(
    project: Name,
    version: Annotated[str, typer.Argument(help="Of MLflow; the challenger where none is named.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also one that the gate refused.")] = False,
    as_json: Json = False,
) -> None:
    """Make a version champion; the service swaps to it."""
    registry.get(project)
    arguments = ["--project", project, *(["--version", version] if version else []), *(["--force"] if force else [])]
    _moved("promote", arguments, as_json=as_json)


@app.command(rich_help_panel=PROJECTS)
def rollback(project: Name, as_json: Json = False) -> None:
    """Make the previous champion the champion again."""
    registry.get(project)
    _moved("rollback", ["--project", project], as_json=as_json)


def _moved(action: str, arguments: list[str], *, as_json: bool) -> None:
    with show.working(action, quiet=as_json):
        done = components.call(from_environment(), "registry", "services.registry", action, *arguments)
    work.show_moved(done, as_json=as_json)


@app.command(rich_help_panel=PROJECTS)
def clean(
    project: Annotated[str, typer.Argument(metavar="[PROJECT]", help="All projects where none is named.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go, what stays and why.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what is older than the project's `Keep` says. Ends with 1 where a part could not be asked."""
    settings = from_environment()
    declared = [registry.get(project)] if project else registry.all_projects()
    results = []
    for member in declared:
        with show.working(f"{member.name}: looks at what it holds", quiet=as_json):
            results.append(retention.clean(settings, member, dry_run=dry_run))
    retention.show_clean(results, as_json=as_json)
    if any(result["problems"] for result in results):
        raise typer.Exit(1)


@app.command(rich_help_panel=PROJECTS)
def forget(
    project: Name,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="Of a row: `predictions[].id` of the service's answer.")
    ],
    as_json: Json = False,
) -> None:
    """Erase a row from logs, snapshots and reports, and say what still holds it."""
    settings = from_environment()
    declared = registry.get(project)
    with show.working(f"{project}: erases {identity}", quiet=as_json):
        done = retention.forget(settings, declared, identity)
    retention.show_forget(done, as_json=as_json)


@app.command(
    rich_help_panel=PROJECTS,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
def new(context: typer.Context) -> None:
    """Write a project from a CSV or from images: new NAME --csv FILE --target COLUMN [--text COLUMN], or --images FOLDER."""
    settings = from_environment()
    arguments = list(context.args)
    extra = [folder for folder in os.environ.get("PHASEFLOW_PROJECTS", "").split(os.pathsep) if folder]
    if extra and "--into" not in arguments:
        arguments += ["--into", str(Path(extra[0]).absolute())]
    environment = os.environ | supervisor.environment(settings)
    done = subprocess.run(
        [settings.python("tabular"), "-m", "phaseflow.scaffold", *arguments], env=environment, check=False
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    if supervisor.running(settings) and not {"-h", "--help"} & set(arguments):
        platform.refresh(settings)
