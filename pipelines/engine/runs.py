"""Runs as processes: started in a family's interpreter, at most `PARALLEL` at once, found again after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import yaml

from phaseflow import registry
from phaseflow.errors import PhaseflowError
from phaseflow.settings import ROOT, Settings
from pipelines.engine.state import ENDED, Record, State, now

PARALLEL: Final = 2
KEPT: Final = 50
TAIL: Final = 4000
"""Characters of the log that a failed run's error quotes."""


def log_of(folder: Path, tail: int | None = None) -> str:
    """What the run printed."""
    try:
        text = (folder / "log.txt").read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return text[-tail:] if tail else text


def _reason(folder: Path) -> str:
    """The error that a step of ours raised last, with its fix: kfp's own says only which step failed."""
    said = re.findall(r"phaseflow\.errors\.\w+: (.+)", log_of(folder))
    return str(said[-1]) if said else ""


def alive(pid: int | None, started: float | None) -> bool:
    """Whether the process that was started then is running: a number may be another process's by now."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return False
    except (ProcessLookupError, PermissionError):
        return False
    return started is None or not Path("/proc").exists() or abs(_started(pid) - started) < 5


def _started(pid: int) -> float:
    try:
        return Path(f"/proc/{pid}").stat().st_ctime
    except FileNotFoundError:
        return 0.0


def scratch(run_id: str) -> Path:
    """The run's own temporary folder: KFP leaves one behind for each step."""
    return Path(tempfile.gettempdir()) / f"phaseflow-run-{run_id}"


class Runner:
    """Starts queued runs, and notes how each ends."""

    def __init__(self, state: State, settings: Settings) -> None:
        self.state = state
        self.settings = settings
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._wake = asyncio.Event()

    def create(self, record: Record, pipeline: dict[str, Any], parameters: dict[str, Any]) -> Record:
        """Queue a run; its process starts when there is room."""
        folder = self.state.folder("runs", record["run_id"])
        folder.mkdir(parents=True)
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=True))
        (folder / "parameters.json").write_text(json.dumps(parameters))
        self.state.write("runs", record["run_id"], record)
        self._wake.set()
        return record

    async def serve(self) -> None:
        """Start what is queued and note what ended, for ever."""
        for record in self.state.all("runs"):
            if record["state"] == "RUNNING":
                self._settle(record)
        while True:
            running = [record for record in self.state.all("runs") if record["state"] == "RUNNING"]
            for record in running:
                if record["run_id"] not in self._children:  # of an engine before this one
                    self._settle(record)
            waiting = [record for record in self.state.all("runs") if record["state"] == "PENDING"]
            for record in reversed(waiting):
                if len(running) >= PARALLEL:
                    break
                running.append(record)
                await self._start(record)
            self._prune()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 1.0)
            self._wake.clear()

    async def _start(self, record: Record) -> None:
        folder = self.state.folder("runs", record["run_id"])
        python = self.settings.python(family(record["pipeline_name"]))
        temporary = scratch(record["run_id"])
        temporary.mkdir(mode=0o700, exist_ok=True)
        with (folder / "log.txt").open("ab") as log:
            try:
                child = await asyncio.create_subprocess_exec(
                    str(python),
                    "-m",
                    "pipelines.engine.execute",
                    str(folder),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=ROOT,
                    env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)},
                    start_new_session=True,
                )
            except OSError as error:
                self._end(record, "FAILED", f"{python} can't be started: {error.strerror}. Make it by `make setup`.")
                return
        self._children[record["run_id"]] = child
        self.state.write(
            "runs",
            record["run_id"],
            record | {"state": "RUNNING", "pid": child.pid, "started": time.time(), "started_at": now()},
        )
        asyncio.create_task(self._wait(record["run_id"], child))  # noqa: RUF006  # the child's entry keeps it in sight

    async def _wait(self, run_id: str, child: asyncio.subprocess.Process) -> None:
        await child.wait()
        self._children.pop(run_id, None)
        record = self.state.read("runs", run_id)
        if record is not None:
            self._settle(record)
        self._wake.set()

    def _settle(self, record: Record) -> None:
        """Note the end of a run whose process is gone, and remove what it left."""
        if alive(record.get("pid"), record.get("started")):
            return
        shutil.rmtree(scratch(record["run_id"]), ignore_errors=True)
        if record["state"] in ENDED:
            return
        folder = self.state.folder("runs", record["run_id"])
        outcome = folder / "outcome.json"
        if outcome.exists():
            said = json.loads(outcome.read_text())
            error = f"{_reason(folder) or said['error']}\n{log_of(folder, TAIL)}" if said["error"] else ""
            self._end(record, said["state"], error)
        else:
            self._end(record, "FAILED", f"The run's process was killed before it ended.\n{log_of(folder, TAIL)}")

    def _end(self, record: Record, state: str, error: str) -> None:
        self.state.write(
            "runs",
            record["run_id"],
            record | {"state": state, "finished_at": now(), "error": {"code": 13, "message": error} if error else None},
        )

    def terminate(self, run_id: str) -> bool:
        """End a run and all its processes; false where there is none such."""
        record = self.state.read("runs", run_id)
        if record is None:
            return False
        if record["state"] not in ENDED:
            self._end(record, "CANCELED", "")
            if alive(record.get("pid"), record.get("started")):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(record["pid"], signal.SIGKILL)
        return True

    def _prune(self) -> None:
        ended = [record for record in self.state.all("runs") if record["state"] in ENDED]
        for record in ended[KEPT:]:
            shutil.rmtree(self.state.folder("runs", record["run_id"]), ignore_errors=True)


def family(pipeline_name: str) -> str:
    """The training family of the project of that name; another pipeline runs in `tabular`."""
    try:
        return registry.get(pipeline_name.replace("-", "_")).family
    except PhaseflowError:
        return "tabular"
