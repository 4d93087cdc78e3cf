"""Processes that outlive a killed parent: they are ended, and their responses don't count."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import psutil
from typer.testing import CliRunner

from cli import app as cli
from cli.local import lifecycle, processes, report, supervisor
from cli.local.program import Plan
from cli.local.tests.servers import SERVER, answers, is_healthy, kill_supervisor, listener, pid, server
from phaseflow.settings import Settings
from phaseflow.testing import until


def test_the_next_up_ends_the_orphans_of_a_killed_supervisor(settings: Settings) -> None:
    plan = Plan(steps=(), programs=(server(settings),))
    lifecycle.up(settings, plan)
    orphan = pid(settings)
    os.kill(supervisor.call(settings, "supervisor.getPID"), signal.SIGKILL)
    until(lambda: not supervisor.running(settings))
    lifecycle.up(settings, plan)
    assert pid(settings) != orphan
    assert not psutil.pid_exists(orphan)


def test_a_killed_supervisor_comes_back_and_every_program_with_it(settings: Settings) -> None:
    program = server(settings)
    lifecycle.up(settings, Plan(steps=(), programs=(program,)))
    orphan, first = pid(settings), supervisor.call(settings, "supervisor.getPID")
    kill_supervisor(settings)
    until(lambda: supervisor.states(settings).get("server", {}).get("pid") not in {None, 0, orphan})
    until(lambda: not psutil.pid_exists(orphan))
    until(lambda: answers(program.health.url))
    assert supervisor.call(settings, "supervisor.getPID") != first
    guardians = lambda: [p for p, name in processes.members(settings.home).items() if name == supervisor.GUARDIAN]  # noqa: E731
    until(lambda: len(guardians()) == 1)  # the old one exits after the restart
    guardians()[0].kill()
    killed_guardian = guardians()
    until(lambda: len(guardians()) == 1 and guardians() != killed_guardian)
    lifecycle.down(settings)
    assert processes.members(settings.home) == {}


def test_orphans_without_a_supervisor_are_named_with_the_fix(settings: Settings) -> None:
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    first = psutil.Process(supervisor.call(settings, "supervisor.getPID"))
    first.suspend()  # else it restarts the guardian
    for process, name in processes.members(settings.home).items():
        if name == supervisor.GUARDIAN:
            process.kill()
    first.kill()
    first.wait(20)
    status = report.status(settings)
    assert not status["running"]
    assert {orphan["name"] for orphan in status["orphans"]} == {"server"}
    result = CliRunner().invoke(cli.app, ["status"])
    assert result.exit_code == 1
    assert "supervisord is gone, and 2 processes run without it: server (" in result.output
    assert "Nothing restarts them. `phaseflow up` ends them and starts everything again." in result.output
    assert json.loads(CliRunner().invoke(cli.app, ["status", "--json"]).output)["orphans"] == status["orphans"]
    assert lifecycle.down(settings) == 2
    assert CliRunner().invoke(cli.app, ["status"]).output == "nothing runs; start it with `phaseflow up`\n"


def test_a_killed_parent_s_child_does_not_keep_its_port(settings: Settings) -> None:
    """The child listens, like uvicorn's worker under MLflow's command."""
    code = settings.home.parent / "parent.py"
    code.write_text("import subprocess, sys; sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)\n")
    whole = server(settings)
    program = server(settings, argv=(sys.executable, str(code), *whole.argv[1:]))
    lifecycle.up(settings, Plan(steps=(), programs=(program,)))
    first = pid(settings)
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.states(settings)["server"].get("pid") not in {0, first})
    second = pid(settings)
    until(lambda: listener(settings) in {child.pid for child in psutil.Process(second).children()})
    assert "already in use" not in supervisor.tail(supervisor.log(settings, "server"))
    assert pid(settings) == second  # no start failed


def test_a_response_of_an_orphan_is_not_the_programs_health(settings: Settings) -> None:
    """The orphan ignores SIGTERM, so that it still responds when the next `up` asks."""
    program = server(settings)
    code = settings.home.parent / "server.py"
    code.write_text(f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVER}")
    plan = Plan(steps=(), programs=(program,))
    lifecycle.up(settings, plan)
    orphan = pid(settings)
    kill_supervisor(settings)
    until(lambda: supervisor.states(settings).get("server", {}).get("pid") not in {None, 0, orphan})
    assert answers(program.health.url)
    lifecycle.up(settings, plan)
    assert not psutil.pid_exists(orphan)
    assert listener(settings) == pid(settings)


def test_the_heartbeat_of_a_killed_predecessor_is_not_the_programs_health(settings: Settings) -> None:
    """Like Airflow, whose API server counts a heartbeat that is up to 30 seconds old."""
    program = server(settings)
    code = settings.home.parent / "server.py"
    beat = settings.home.parent / "heartbeat"
    code.write_text(SERVER.replace('"child": child.pid', f'"child": child.pid, "beat": open({str(beat)!r}).read()'))
    program = replace(program, health=replace(program.health, heartbeat=("beat",)))
    beat.write_text(datetime.now(UTC).isoformat())
    lifecycle.up(settings, Plan(steps=(), programs=(replace(program, health=replace(program.health, heartbeat=())),)))
    assert not is_healthy(program, settings)
    beat.write_text(datetime.now(UTC).isoformat())
    assert is_healthy(program, settings)
    first = pid(settings)
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.states(settings)["server"].get("pid") not in {0, first})
    until(lambda: answers(program.health.url))
    assert not is_healthy(program, settings)


def test_an_up_ends_the_orphan_on_the_port_of_a_stopped_program(settings: Settings) -> None:
    plan = Plan(steps=(), programs=(server(settings),))
    lifecycle.up(settings, plan)
    supervisor.call(settings, "supervisor.stopProcess", "server")
    process = subprocess.Popen(
        server(settings).argv,
        env=os.environ | {"PHASEFLOW_HOME": str(settings.home), processes.MARK: "server"},
        stdout=subprocess.DEVNULL,
    )
    until(lambda: answers(plan.programs[0].health.url))
    lifecycle.up(settings, plan)
    assert not psutil.pid_exists(process.pid)
    assert listener(settings) == pid(settings)


def test_children_that_a_program_adopts_survive_its_restart(settings: Settings) -> None:
    """Like the pipeline engine, whose runs have their own sessions."""
    code = settings.home.parent / "server.py"
    program = server(settings, argv=(sys.executable, str(code), str(settings.port("serving"))), adopts=True)
    code.write_text(SERVER.replace('sleep(1000)"]', 'sleep(1000)"], start_new_session=True'))
    lifecycle.up(settings, Plan(steps=(), programs=(program,)))
    child = httpx.get(program.health.url).json()["child"]
    first = pid(settings)
    kill_supervisor(settings)  # the program is then an orphan that uses the port
    until(lambda: supervisor.states(settings).get("server", {}).get("pid") not in {None, 0, first})
    until(lambda: not psutil.pid_exists(first))
    until(lambda: answers(program.health.url))
    assert psutil.pid_exists(child)
