"""The supervisor with small real programs: start, crash, restart, changed configuration, stop."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import signal
import socket
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from cli import app as cli
from cli.demo import report as demo_report
from cli.demo import run
from cli.local import lifecycle, passwords, platform, supervisor
from cli.local.program import Plan, Step
from cli.local.tests.servers import pid, server
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings
from phaseflow.testing import until


def test_it_starts_comes_back_after_a_crash_and_leaves_nothing(settings: Settings) -> None:
    events: list[tuple[str, str]] = []
    plan = Plan(
        steps=(Step(name="before", argv=(sys.executable, "-c", f"open({str(settings.home / 'made')!r}, 'w')")),),
        programs=(server(settings, after=("before",)),),
    )
    lifecycle.up(settings, plan, lambda name, state, _: events.append((name, state)))
    assert (settings.home / "made").exists()
    assert events == [("before", "starting"), ("before", "done"), ("server", "starting"), ("server", "up")]
    body = httpx.get(f"http://127.0.0.1:{settings.port('serving')}/").json()
    assert body["GREETING"] == 'a "quoted, 5%" word; and more'
    assert body["PHASEFLOW_HOME"] == str(settings.home)
    assert "here I am" in supervisor.tail(supervisor.log(settings, "server"))

    first = pid(settings)
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.states(settings)["server"].get("pid") not in {0, first})
    lifecycle.up(settings, plan)  # only waits until it is healthy

    child = httpx.get(f"http://127.0.0.1:{settings.port('serving')}/").json()["child"]
    assert lifecycle.down(settings) <= 1  # at most the orphan of the killed process
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert lifecycle.down(settings) == 0


def test_programs_get_library_settings_and_no_secret_of_the_callers_shell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"WANDB_PROJECT": "mirror", "HF_HOME": "/weights", "CUDA_VISIBLE_DEVICES": "1"}
    for name, value in (variables | dict.fromkeys(("WANDB_API_KEY", "HF_TOKEN", "EDITOR", "PYTHONHOME"), "")).items():
        monkeypatch.setenv(name, value)
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    environment = httpx.get(f"http://127.0.0.1:{settings.port('serving')}/").json()
    assert variables.items() <= environment.items()
    assert not {"WANDB_API_KEY", "HF_TOKEN", "EDITOR", "PYTHONHOME"} & environment.keys()


def test_a_second_up_changes_nothing_and_a_changed_setting_restarts(settings: Settings) -> None:
    plan = Plan(steps=(), programs=(server(settings),))
    lifecycle.up(settings, plan)
    before = pid(settings)
    lifecycle.up(settings, plan)
    assert pid(settings) == before
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings, environment={"GREETING": "new"}),)))
    assert pid(settings) != before
    assert httpx.get(f"http://127.0.0.1:{settings.port('serving')}/").json()["GREETING"] == "new"


@pytest.mark.parametrize("command", ["down", "up"])
def test_the_next_command_waits_for_the_shutdown_of_a_killed_down(settings: Settings, command: str) -> None:
    plan = Plan(steps=(), programs=(server(settings, stop_seconds=60),))
    lifecycle.up(settings, plan)
    first, child = psutil.Process(supervisor.call(settings, "supervisor.getPID")), psutil.Process(pid(settings))
    child.suspend()  # the shutdown ends when it runs again
    until(lambda: child.status() == psutil.STATUS_STOPPED)  # the kernel would deliver a SIGTERM first
    supervisor.call(settings, "supervisor.shutdown")
    assert (supervisor.running(settings), supervisor.states(settings)) == (True, {})
    with ThreadPoolExecutor(1) as pool:
        if command == "up":
            waiting = pool.submit(lifecycle.up, settings, plan)
        else:
            waiting = pool.submit(CliRunner().invoke, cli.app, ["down"])
        until(lambda: is_locked(settings))
        child.resume()
        result = waiting.result(timeout=60)
    if command == "up":
        assert set(supervisor.states(settings)) == {"server", supervisor.GUARDIAN}
    else:
        assert (result.exit_code, result.output) == (0, f"stopping\nstopped; the data stays in {settings.home}\n")
        assert not supervisor.running(settings)
    assert first not in supervisor.members(settings)


def is_locked(settings: Settings) -> bool:
    """Whether an `up` or a `down` is at work."""
    with (supervisor.folder(settings) / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_every_process_may_open_the_maximum_number_of_files(settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))  # less than the default of a login
    try:
        lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    limits = Path(f"/proc/{pid(settings)}/limits").read_text()
    match = re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)
    assert match is not None
    assert int(match[1]) == (65_536 if hard == resource.RLIM_INFINITY else min(65_536, hard))


def test_secrets_socket_and_home_are_their_owners_alone(settings: Settings) -> None:
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    secrets = {path.name: path.read_text() for path in settings.secrets.iterdir()}
    assert len(set(secrets.values())) == len(secrets) == 11
    for path in (settings.home, settings.secrets):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (*settings.secrets.iterdir(), supervisor.socket_path(settings)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    processes = supervisor.members(settings)
    assert processes
    for process in processes:
        visible = " ".join(process.cmdline()) + " ".join(process.environ().values())
        assert not any(secret in visible for secret in secrets.values())
    lifecycle.down(settings)
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    assert {path.name: path.read_text() for path in settings.secrets.iterdir()} == secrets


def test_a_program_that_ends_at_once_is_named_with_its_log(settings: Settings) -> None:
    bad = server(settings, argv=(sys.executable, "-c", "raise SystemExit('the disk is upside down')"))
    with pytest.raises(PlatformError, match="server can't start") as error:
        lifecycle.up(settings, Plan(steps=(), programs=(bad,)))
    assert "the disk is upside down" in str(error.value)
    assert error.value.fix.endswith("fix the cause, then run `phaseflow up` again")


def test_a_step_that_fails_is_named_with_its_log(settings: Settings) -> None:
    step = Step(name="migrate", argv=(sys.executable, "-c", "raise SystemExit('no such table')"))
    with pytest.raises(PlatformError, match=r"migrate exited with 1\. The end of its log:\nno such table"):
        lifecycle.up(settings, Plan(steps=(step,), programs=(server(settings, after=("migrate",)),)))


def test_a_program_that_never_becomes_healthy_is_named(settings: Settings) -> None:
    deaf = server(settings, argv=(sys.executable, "-c", "import time; time.sleep(100)"))
    with pytest.raises(PlatformError, match=r"server is not healthy after 2 s\. Its log is empty"):
        lifecycle.up(settings, Plan(steps=(), programs=(deaf,)), seconds=2)


def test_a_port_in_use_is_named_with_its_process_before_anything_starts(settings: Settings) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", settings.port("serving")))
        listener.listen()
        with pytest.raises(PlatformError) as error:
            lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    me = psutil.Process()
    port = settings.port("serving")
    assert str(error.value) == (
        f"ports: port {port} (serving) is in use by {me.name()} (process {me.pid}). "
        f"Stop it, or move all ports: `export PHASEFLOW_PORT_OFFSET={settings.port_offset + 1000}`"
    )
    assert not supervisor.running(settings)


def test_a_value_that_supervisord_cannot_hold_is_refused(settings: Settings) -> None:
    with pytest.raises(PlatformError, match="GREETING contains both kinds of quotes"):
        supervisor.configuration(settings, (server(settings, environment={"GREETING": "\"'"}),))


def test_passwords_are_printed_only_on_request(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle.down(settings)
    passwords.ensure(settings)
    password = settings.secret("airflow_admin_password")
    monkeypatch.setattr(platform, "up", lambda settings, watch: {})
    monkeypatch.setattr(run, "run", lambda platform, project, quiet: {"ok": True})
    monkeypatch.setattr(demo_report, "summary", lambda result, project: None)
    for command in ("up", "demo", "urls"):
        result = CliRunner().invoke(cli.app, [command])
        assert result.exit_code == 0, result.output
        assert password not in result.output
        assert "airflow_admin_password" in result.output
        assert password in CliRunner().invoke(cli.app, [command, "--show-passwords"]).output
