"""Bringing the platform up and taking it down."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx

from phaseflow.embedded import machine, passwords, processes, supervisor
from phaseflow.embedded.program import Health, Plan, Program, Step
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings

START_SECONDS: Final = 180.0
"""The slowest part (Airflow's first start on two busy cores) takes a quarter of it."""
TRIES: Final = 3
"""Starts of one program during one `up` after which it is given up."""
POLL_SECONDS: Final = 0.2
FINE: Final = frozenset({"STARTING", "RUNNING"})

Watch = Callable[[str, str, float], None]
"""Hears (name, `waiting` | `starting` | `up` | `done`, seconds since `up` began) at each change."""


def silent(_name: str, _state: str, _seconds: float) -> None:
    """Hears and says nothing."""


def up(settings: Settings, plan: Plan, watch: Watch = silent, seconds: float = START_SECONDS) -> None:
    """Start what does not run yet, and wait until everything answers; where all runs, nothing changes.

    Raises PlatformError that names the program that can't start, with the end of its log.
    """
    with supervisor.lock(settings):
        before = supervisor.states(settings)
        if not before:
            supervisor.reap(settings)  # what a killed supervisord left behind
        # Where a program of ours should run but does not, its port must be free as much as on the first start.
        idle = [p for p in plan.programs if before.get(p.name, {}).get("statename") not in FINE]
        if idle:
            for program in idle:  # orphans of a killed parent hold its port
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
    """Stop everything and leave nothing; gives how many processes had to be ended one by one.

    Raises PlatformError when a process survives even that.
    """
    if not settings.home.exists():
        return 0
    with supervisor.lock(settings):
        supervisor.shutdown(settings)
        killed = supervisor.reap(settings)
        supervisor.remove_socket(settings)
        return killed


class _Start:
    """One `up`: each program starts when its steps are done, all at the same time."""

    def __init__(self, settings: Settings, plan: Plan, watch: Watch, seconds: float) -> None:
        self.settings = settings
        self.plan = plan
        self.watch = watch
        self.begun = time.monotonic()
        self.deadline = self.begun + seconds
        states = supervisor.states(settings)
        self.todo = {p.name: p for p in plan.programs if states.get(p.name, {}).get("statename") not in FINE}
        self.unhealthy = {program.name: program for program in plan.programs}
        self.pids: dict[str, set[int]] = {name: set() for name in self.unhealthy}
        needed = {name for program in self.todo.values() for name in program.after}
        self.steps = {step.name: self._begin(step) for step in plan.steps if step.name in needed}

    def run(self) -> None:
        try:
            with httpx.Client(timeout=2, trust_env=False) as client:
                while self.unhealthy:
                    self._steps()
                    self._starts()
                    self._health(client)
                    if time.monotonic() > self.deadline:
                        slow = next(iter(self.unhealthy))
                        raise self._failure(slow, f"{slow} does not answer after {self._elapsed():.0f} s")
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
                env=supervisor.inherited() | supervisor.environment(self.settings) | dict(step.environment),
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
                raise self._failure(name, f"{name} ended with {code}")
            del self.steps[name]
            self.watch(name, "done", self._elapsed())

    def _starts(self) -> None:
        for name, program in list(self.todo.items()):
            if not any(step in self.steps for step in program.after):
                supervisor.start(self.settings, name)
                del self.todo[name]
                self.watch(name, "starting", self._elapsed())

    def _health(self, client: httpx.Client) -> None:
        states = supervisor.states(self.settings)
        for name, program in list(self.unhealthy.items()):
            if name in self.todo:
                continue
            state = states.get(name, {})
            if pid := state.get("pid"):
                self.pids[name].add(pid)
            if state.get("statename") == "FATAL" or len(self.pids[name]) > TRIES:
                raise self._failure(name, f"{name} can't start ({state.get('spawnerr') or 'it ends at once'})")
            if state.get("statename") in FINE and healthy(program.health, client, self.settings):
                del self.unhealthy[name]
                self.watch(name, "up", self._elapsed())

    def _elapsed(self) -> float:
        return time.monotonic() - self.begun

    def _failure(self, name: str, problem: str) -> PlatformError:
        path = supervisor.log(self.settings, name)
        end = supervisor.tail(path)
        fix = f"Read {path}; when it is mended, `phaseflow up` goes on"
        if "address already in use" in end.lower():
            ports = [p for program in self.plan.programs if program.name == name for p in program.ports]
            fix = f"{machine.ports(self.settings, tuple(ports)).fix or 'Its port was taken'}, then `phaseflow up`"
        return PlatformError(f"{problem}. The end of its log:\n{end}\n", fix=fix)


def healthy(health: Health, client: httpx.Client, settings: Settings) -> bool:
    """Whether the program answers well now."""
    try:
        answer = client.get(health.url, auth=settings.login(health.login) if health.login else None)
        if not answer.is_success:
            return False
        if not health.path:
            return True
        found: Any = answer.json()
        for key in health.path:
            found = found[key]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
    return str(found) == health.value


def run_step(settings: Settings, step: Step) -> None:
    """Do a step now; raises PlatformError with the end of its log."""
    path: Path = supervisor.log(settings, step.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as output:
        done = subprocess.run(
            step.argv,
            cwd=ROOT,
            env=supervisor.inherited() | supervisor.environment(settings) | dict(step.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        raise PlatformError(
            f"{step.name} ended with {done.returncode}:\n{supervisor.tail(path)}\n", fix=f"Read {path} and try again"
        )


def reload(settings: Settings, program: Program) -> None:
    """Make a running program read its configuration again."""
    if supervisor.states(settings).get(program.name, {}).get("statename") in FINE:
        supervisor.call(settings, "supervisor.signalProcess", program.name, program.reload_signal)
