"""Starts and stops the platform."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

from cli.local import launcher, machine, passwords, processes, supervisor
from cli.local.program import Health, Plan, Program, Step
from cli.platforms import Watch
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings

START_SECONDS: Final = 180.0
"""Timeout of `up`. The slowest part, Airflow's first start on two busy cores, takes a quarter of it."""
TRIES: Final = 3
"""Maximum starts of one program during one `up`."""
POLL_SECONDS: Final = 0.2
FINE: Final = frozenset({"STARTING", "RUNNING"})


def silent(_name: str, _state: str, _seconds: float) -> None:
    """Callback that does nothing."""


def up(settings: Settings, plan: Plan, watch: Watch = silent, seconds: float = START_SECONDS) -> None:
    """Start the programs that are not running, and wait until all are healthy. Running programs are left as they are.

    Raises PlatformError that names the program that can't start, with the end of its log.
    """
    with supervisor.lock(settings):
        before = supervisor.states(settings)
        if not before:
            supervisor.shutdown(settings)  # it may still be shutting down for a killed `down`
            supervisor.reap(settings)  # processes that a killed supervisord left behind
        # If a program should be running but is not, its port must be free, as on the first start.
        idle = [p for p in plan.programs if before.get(p.name, {}).get("statename") not in FINE]
        if idle:
            for program in idle:  # orphans of a killed parent may use its port
                processes.end(settings.home, {program.name}, sessions=not program.adopts)
            machine.require(
                machine.environments(settings),
                machine.ports(settings, tuple(port for program in idle for port in program.ports)),
                machine.disk(settings.home),
            )
        if not before:
            machine.require(machine.memory())
        passwords.ensure(settings)
        supervisor.write(settings, plan.programs)
        if before:
            supervisor.update(settings)
        else:
            supervisor.launch(settings)
        _Start(settings, plan, watch, seconds).run()


def down(settings: Settings) -> int:
    """Stop all processes; return how many had to be ended one by one.

    Raises PlatformError if a process survives.
    """
    if not settings.home.exists():
        return 0
    with supervisor.lock(settings):
        supervisor.shutdown(settings)
        killed_count = supervisor.reap(settings)
        supervisor.remove_socket(settings)
        return killed_count


class _Start:
    """One run of `up`. Programs start concurrently, each as soon as its steps are done."""

    def __init__(self, settings: Settings, plan: Plan, watch: Watch, seconds: float) -> None:
        self.settings = settings
        self.plan = plan
        self.watch = watch
        self.started_at = time.monotonic()
        self.deadline = self.started_at + seconds
        states = supervisor.states(settings)
        self.pending = {p.name: p for p in plan.programs if states.get(p.name, {}).get("statename") not in FINE}
        self.unhealthy = {program.name: program for program in plan.programs}
        self.pids: dict[str, set[int]] = {name: set() for name in self.unhealthy}
        required_steps = {name for program in self.pending.values() for name in program.after}
        self.steps = {step.name: self._begin(step) for step in plan.steps if step.name in required_steps}

    def run(self) -> None:
        try:
            with httpx.Client(timeout=2, trust_env=False) as client:
                while self.unhealthy:
                    self._steps()
                    self._starts()
                    self._health(client)
                    if time.monotonic() > self.deadline:
                        slow = next(iter(self.unhealthy))
                        raise self._failure(slow, f"{slow} is not healthy after {self._elapsed():.0f} s")
                    time.sleep(POLL_SECONDS)
        finally:
            for process in self.steps.values():
                if process.poll() is None:
                    process.terminate()
                    process.wait()

    def _begin(self, step: Step) -> subprocess.Popen[bytes]:
        self.watch(step.name, "starting", self._elapsed())
        with supervisor.log(self.settings, step.name).open("wb") as output:
            return subprocess.Popen(
                step.argv,
                cwd=ROOT,
                env=supervisor.inherited() | supervisor.overridden(self.settings, step.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _steps(self) -> None:
        for name, process in list(self.steps.items()):
            code = process.poll()
            if code is None:
                continue
            if code:
                raise self._failure(name, f"{name} exited with {code}")
            del self.steps[name]
            self.watch(name, "done", self._elapsed())

    def _starts(self) -> None:
        for name, program in list(self.pending.items()):
            if not any(step in self.steps for step in program.after):
                supervisor.start(self.settings, name)
                del self.pending[name]
                self.watch(name, "starting", self._elapsed())

    def _health(self, client: httpx.Client) -> None:
        states = supervisor.states(self.settings)
        for name, program in list(self.unhealthy.items()):
            if name in self.pending:
                continue
            state = states.get(name, {})
            if pid := state.get("pid"):
                self.pids[name].add(pid)
            if state.get("statename") == "FATAL" or len(self.pids[name]) > TRIES:
                raise self._failure(name, f"{name} can't start ({state.get('spawnerr') or 'it exits immediately'})")
            if healthy(program, state, client, self.settings):
                del self.unhealthy[name]
                self.watch(name, "up", self._elapsed())

    def _elapsed(self) -> float:
        return time.monotonic() - self.started_at

    def _failure(self, name: str, problem: str) -> PlatformError:
        path = supervisor.log(self.settings, name)
        end = supervisor.tail(path)
        fix = f"Read {path} and fix the cause, then run `phaseflow up` again"
        if "address already in use" in end.lower():
            ports = [p for program in self.plan.programs if program.name == name for p in program.ports]
            fix = f"{machine.ports(self.settings, tuple(ports)).fix or 'Free its port'}, then `phaseflow up`"
        return PlatformError(
            f"{problem}. The end of its log:\n{end}\n" if end else f"{problem}. Its log is empty", fix=fix
        )


def healthy(program: Program, state: Mapping[str, Any], client: httpx.Client, settings: Settings) -> bool:
    """Whether the program, of which `state` is supervisord's, runs and is healthy now.

    While its launcher still ends the leftovers of a killed predecessor, a response comes from one of them.
    """
    if state.get("statename") not in FINE:
        return False
    started_at = launcher.started_at(state["pid"], program.name)
    return started_at is not None and responds(program.health, client, settings, started_at)


def responds(health: Health, client: httpx.Client, settings: Settings, started_at: float = 0) -> bool:
    """Whether the response of a health check is the expected one, of a program that started at `started_at`."""
    try:
        response = client.get(health.url, auth=settings.login(health.login) if health.login else None)
        if not response.is_success:
            return False
        if not health.path:
            return True
        values: Any = response.json()
        if health.heartbeat and _time(_at(values, health.heartbeat)) < started_at:
            return False
        return str(_at(values, health.path)) == health.value
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


def _at(values: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of JSON."""
    for key in path:
        values = values[key]
    return values


def _time(text: str) -> float:
    """A time in ISO 8601 in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def run_step(settings: Settings, step: Step) -> None:
    """Run a step now; raises PlatformError with the end of its log if it fails."""
    path: Path = supervisor.log(settings, step.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as output:
        completed = subprocess.run(
            step.argv,
            cwd=ROOT,
            env=supervisor.inherited() | supervisor.overridden(settings, step.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if completed.returncode:
        raise PlatformError(
            f"{step.name} exited with {completed.returncode}:\n{supervisor.tail(path)}\n",
            fix=f"Read {path} and try again",
        )


def reload(settings: Settings, program: Program) -> None:
    """Make a running program read its configuration again."""
    if supervisor.states(settings).get(program.name, {}).get("statename") in FINE:
        supervisor.call(settings, "supervisor.signalProcess", program.name, program.reload_signal)
