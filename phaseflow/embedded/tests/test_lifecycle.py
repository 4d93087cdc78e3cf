"""The supervisor with small real programs: start, crash, restart, change, stop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from phaseflow.cli import app as cli
from phaseflow.cli import demo
from phaseflow.embedded import guardian, lifecycle, machine, passwords, platform, processes, report, supervisor
from phaseflow.embedded.program import Health, Plan, Program, Step
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment

SERVER = """
import http.server, json, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"inner": {"status": "fine"}, "child": child.pid, **os.environ}).encode())
print("here I am", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path / "a home"))
    monkeypatch.setenv("PHASEFLOW_PORT_OFFSET", str(free_port() - 3000))  # serving's port is a free one
    made = from_environment()
    yield made
    lifecycle.down(made)
    assert supervisor.members(made) == []


def server(settings: Settings, **changes: object) -> Program:
    port = settings.port("serving")
    code = settings.home.parent / "server.py"
    code.write_text(SERVER)
    values: dict[str, object] = {
        "name": "server",
        "what": "answers",
        "argv": (sys.executable, str(code), str(port)),
        "health": Health(url=f"http://127.0.0.1:{port}/", path=("inner", "status"), value="fine"),
        "environment": {"GREETING": 'a "quoted, 5%" word; and more'},
        "ports": ("serving",),
        "stop_seconds": 3,
    }
    return Program(**{**values, **changes})  # type: ignore[arg-type]  # a test's shorthand


def pid(settings: Settings) -> int:
    return int(supervisor.states(settings)["server"]["pid"])


def test_it_starts_comes_back_after_a_crash_and_leaves_nothing(settings: Settings) -> None:
    heard: list[tuple[str, str]] = []
    plan = Plan(
        steps=(Step(name="before", argv=(sys.executable, "-c", f"open({str(settings.home / 'made')!r}, 'w')")),),
        programs=(server(settings, after=("before",)),),
    )
    lifecycle.up(settings, plan, lambda name, state, _: heard.append((name, state)))
    assert (settings.home / "made").exists()
    assert heard == [("before", "starting"), ("before", "done"), ("server", "starting"), ("server", "up")]
    answer = httpx.get(f"http://127.0.0.1:{settings.port('serving')}/").json()
    assert answer["GREETING"] == 'a "quoted, 5%" word; and more'
    assert answer["PHASEFLOW_HOME"] == str(settings.home)
    assert "here I am" in supervisor.tail(supervisor.log(settings, "server"))

    first = pid(settings)
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.states(settings)["server"].get("pid") not in {0, first})
    lifecycle.up(settings, plan)  # waits for it; nothing else to do

    child = httpx.get(f"http://127.0.0.1:{settings.port('serving')}/").json()["child"]
    assert lifecycle.down(settings) <= 1  # at most the orphan of the killed one
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert lifecycle.down(settings) == 0


def test_it_gets_the_libraries_settings_and_no_secret_of_the_callers_shell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"WANDB_PROJECT": "mirror", "HF_HOME": "/weights", "CUDA_VISIBLE_DEVICES": "1"}
    for name, value in (told | dict.fromkeys(("WANDB_API_KEY", "HF_TOKEN", "EDITOR", "PYTHONHOME"), "")).items():
        monkeypatch.setenv(name, value)
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    found = httpx.get(f"http://127.0.0.1:{settings.port('serving')}/").json()
    assert told.items() <= found.items()
    assert not {"WANDB_API_KEY", "HF_TOKEN", "EDITOR", "PYTHONHOME"} & found.keys()


def test_a_second_up_changes_nothing_and_a_changed_setting_restarts(settings: Settings) -> None:
    plan = Plan(steps=(), programs=(server(settings),))
    lifecycle.up(settings, plan)
    before = pid(settings)
    lifecycle.up(settings, plan)
    assert pid(settings) == before
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings, environment={"GREETING": "new"}),)))
    assert pid(settings) != before
    assert httpx.get(f"http://127.0.0.1:{settings.port('serving')}/").json()["GREETING"] == "new"


def test_what_a_killed_supervisor_left_is_ended_by_the_next_up(settings: Settings) -> None:
    plan = Plan(steps=(), programs=(server(settings),))
    lifecycle.up(settings, plan)
    orphan = pid(settings)
    os.kill(supervisor.call(settings, "supervisor.getPID"), signal.SIGKILL)
    until(lambda: not supervisor.running(settings))
    lifecycle.up(settings, plan)
    assert pid(settings) != orphan
    assert not psutil.pid_exists(orphan)


def killed(settings: Settings) -> None:
    """Kill supervisord alone, as the system does when memory is short."""
    os.kill(supervisor.call(settings, "supervisor.getPID"), signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def test_a_killed_supervisor_comes_back_and_every_program_with_it(settings: Settings) -> None:
    program = server(settings)
    lifecycle.up(settings, Plan(steps=(), programs=(program,)))
    orphan, first = pid(settings), supervisor.call(settings, "supervisor.getPID")
    killed(settings)
    until(lambda: supervisor.states(settings).get("server", {}).get("pid") not in {None, 0, orphan})
    until(lambda: not psutil.pid_exists(orphan))
    until(lambda: answers(program.health.url))
    assert supervisor.call(settings, "supervisor.getPID") != first
    guardians = lambda: [p for p, name in processes.members(settings.home).items() if name == guardian.NAME]  # noqa: E731
    until(lambda: len(guardians()) == 1)  # the old one has done its work
    guardians()[0].kill()
    killed_guardian = guardians()
    until(lambda: len(guardians()) == 1 and guardians() != killed_guardian)
    lifecycle.down(settings)
    assert processes.members(settings.home) == {}


def test_orphans_without_a_supervisor_are_named_with_the_fix(settings: Settings) -> None:
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    first = psutil.Process(supervisor.call(settings, "supervisor.getPID"))
    first.suspend()  # else it starts the guardian again
    for process, name in processes.members(settings.home).items():
        if name == guardian.NAME:
            process.kill()
    first.kill()
    until(lambda: not supervisor.running(settings))
    found = report.status(settings)
    assert not found["running"]
    assert {orphan["name"] for orphan in found["orphans"]} == {"server"}
    done = CliRunner().invoke(cli.app, ["status"])
    assert done.exit_code == 1
    assert "supervisord is gone, and 2 processes run without it: server (" in done.output
    assert "Nothing restarts them. `phaseflow up` ends them and starts everything again." in done.output
    assert json.loads(CliRunner().invoke(cli.app, ["status", "--json"]).output)["orphans"] == found["orphans"]
    assert lifecycle.down(settings) == 2
    assert CliRunner().invoke(cli.app, ["status"]).output == "nothing runs; start it with `phaseflow up`\n"


def test_every_process_may_open_as_many_files_as_the_system_allows(settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))  # less than a login gives
    try:
        lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    limits = Path(f"/proc/{pid(settings)}/limits").read_text()
    allowed = re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)
    assert allowed is not None
    assert int(allowed[1]) == (65_536 if hard == resource.RLIM_INFINITY else min(65_536, hard))


def test_a_killed_parent_s_child_does_not_keep_its_port(settings: Settings) -> None:
    """The child listens, as uvicorn's worker does under MLflow's command."""
    code = settings.home.parent / "parent.py"
    code.write_text("import subprocess, sys; sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)\n")
    whole = server(settings)
    program = server(settings, argv=(sys.executable, str(code), *whole.argv[1:]))
    lifecycle.up(settings, Plan(steps=(), programs=(program,)))
    first = pid(settings)
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.states(settings)["server"].get("pid") not in {0, first})
    second = pid(settings)
    until(lambda: _listener(settings) in {child.pid for child in psutil.Process(second).children()})
    assert "already in use" not in supervisor.tail(supervisor.log(settings, "server"))
    assert pid(settings) == second  # no failed start


def _listener(settings: Settings) -> int | None:
    """The process that listens on the program's port, of this home's."""
    for process in processes.members(settings.home):
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == settings.port("serving"):
                    return process.pid
    return None


def test_an_up_ends_what_holds_the_port_of_a_stopped_program(settings: Settings) -> None:
    plan = Plan(steps=(), programs=(server(settings),))
    lifecycle.up(settings, plan)
    supervisor.call(settings, "supervisor.stopProcess", "server")
    left = subprocess.Popen(
        server(settings).argv,
        env=os.environ | {"PHASEFLOW_HOME": str(settings.home), processes.MARK: "server"},
        stdout=subprocess.DEVNULL,
    )
    until(lambda: answers(plan.programs[0].health.url))
    lifecycle.up(settings, plan)
    assert not psutil.pid_exists(left.pid)
    assert _listener(settings) == pid(settings)


def test_what_a_program_finds_again_is_left_to_it(settings: Settings) -> None:
    """As the pipelines' engine, whose runs are sessions of their own."""
    code = settings.home.parent / "server.py"
    program = server(settings, argv=(sys.executable, str(code), str(settings.port("serving"))), adopts=True)
    code.write_text(SERVER.replace('sleep(1000)"]', 'sleep(1000)"], start_new_session=True'))
    lifecycle.up(settings, Plan(steps=(), programs=(program,)))
    child = httpx.get(program.health.url).json()["child"]
    first = pid(settings)
    killed(settings)  # the program itself is an orphan then, and holds the port
    until(lambda: supervisor.states(settings).get("server", {}).get("pid") not in {None, 0, first})
    until(lambda: not psutil.pid_exists(first))
    until(lambda: answers(program.health.url))
    assert psutil.pid_exists(child)


def test_secrets_socket_and_home_are_their_owners_alone(settings: Settings) -> None:
    lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    secrets = {path.name: path.read_text() for path in settings.secrets.iterdir()}
    assert len(set(secrets.values())) == len(secrets) == 10
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
    with pytest.raises(PlatformError, match="server can't start") as caught:
        lifecycle.up(settings, Plan(steps=(), programs=(bad,)))
    assert "the disk is upside down" in str(caught.value)
    assert caught.value.fix.endswith("when it is mended, `phaseflow up` goes on")


def test_a_step_that_fails_is_named_with_its_log(settings: Settings) -> None:
    step = Step(name="migrate", argv=(sys.executable, "-c", "raise SystemExit('no such table')"))
    with pytest.raises(PlatformError, match=r"migrate ended with 1\. The end of its log:\nno such table"):
        lifecycle.up(settings, Plan(steps=(step,), programs=(server(settings, after=("migrate",)),)))


def test_one_that_never_answers_is_named(settings: Settings) -> None:
    deaf = server(settings, argv=(sys.executable, "-c", "import time; time.sleep(100)"))
    with pytest.raises(PlatformError, match="server does not answer after 2 s"):
        lifecycle.up(settings, Plan(steps=(), programs=(deaf,)), seconds=2)


def test_a_taken_port_is_said_with_its_holder_before_anything_starts(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.port("serving")))
        taken.listen()
        with pytest.raises(PlatformError) as caught:
            lifecycle.up(settings, Plan(steps=(), programs=(server(settings),)))
    me = psutil.Process()
    port = settings.port("serving")
    assert str(caught.value) == (
        f"ports: port {port} (serving) is taken by {me.name()} (process {me.pid}). "
        f"Stop it, or move all ports: `export PHASEFLOW_PORT_OFFSET={settings.port_offset + 1000}`"
    )
    assert not supervisor.running(settings)


def test_too_little_disk_and_memory_are_said_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"disk: .* GiB free at .*, 1048576\.0 needed") as caught:
        machine.require(machine.disk(tmp_path / "not" / "yet", needed=1 << 50))
    assert str(caught.value).endswith("Free disk space, or set PHASEFLOW_HOME to a folder on another disk.")
    with pytest.raises(PlatformError, match=r"memory: .* needed\. Close programs that use much memory\."):
        machine.require(machine.memory(needed=1 << 50))


def test_missing_environments_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHASEFLOW_VENVS", str(tmp_path))
    with pytest.raises(PlatformError, match=r"missing in .*: command, dags.* Run `make setup`"):
        machine.require(machine.environments(from_environment()))


def test_a_long_home_still_has_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path / ("long" * 30)))
    made = from_environment()
    path = supervisor.socket_path(made)
    assert len(os.fsencode(path)) < 100
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    made.home.mkdir()
    lifecycle.down(made)
    assert not path.parent.exists()


def test_a_value_that_supervisord_cannot_hold_is_refused(settings: Settings) -> None:
    with pytest.raises(PlatformError, match="GREETING holds both kinds of quotes"):
        supervisor.configuration(settings, (server(settings, environment={"GREETING": "\"'"}),))


def test_a_process_reads_the_data_that_the_settings_name_and_not_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASEFLOW_DATA_MIRROR", "/elsewhere")
    monkeypatch.setenv("PHASEFLOW_OFFLINE", "")
    passed = supervisor.environment(from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"}))
    assert from_environment(passed).data_mirror is None
    assert from_environment(passed).offline


def test_no_password_is_printed_unless_it_is_asked_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle.down(settings)
    passwords.ensure(settings)
    password = settings.secret("airflow_admin_password")
    monkeypatch.setattr(platform, "up", lambda settings, watch: {})
    monkeypatch.setattr(demo, "play", lambda project, quiet: {"ok": True})
    monkeypatch.setattr(demo, "summary", lambda story, project: None)
    for command in ("up", "demo", "urls"):
        shown = CliRunner().invoke(cli.app, [command])
        assert shown.exit_code == 0, shown.output
        assert password not in shown.output
        assert "airflow_admin_password" in shown.output
        assert password in CliRunner().invoke(cli.app, [command, "--show-passwords"]).output
