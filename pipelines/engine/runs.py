"""Runs as processes in an environment's interpreter: at most `PARALLEL` at once, and recovered after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from phaseflow.clients.kfp import CANCELED, ENDED, FAILED, PENDING, RUNNING
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.log import logger
from phaseflow.settings import ROOT, Settings
from phaseflow.store import write_atomic
from pipelines.engine.environment import Environments
from pipelines.engine.state import UNREADABLE, Damaged, Record, State, now

PARALLEL: Final = 2
MAX_ENDED_RUNS: Final = 50
TAIL: Final = 4000
"""Bytes of the log in the error of a failed run."""
MAX_LOG: Final = 4 << 20
"""Maximum bytes that are read from the end of a log, because a step may print without limit."""
LOOK_SECONDS: Final = 1.0
"""Interval between checks of the runs, unless an event wakes the runner earlier."""
MAX_STARTS: Final = 3
"""Attempts to start a run while the disk or the system fails."""
MAX_ERROR: Final = 4000
"""Maximum characters of a step's error."""


def read_log(folder: Path, tail: int = MAX_LOG) -> str:
    """Return the last `tail` bytes of the run's log."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - tail))
            return file.read(tail).decode(errors="replace")
    except UNREADABLE:
        return ""


def _reason(folder: Path) -> str:
    """Return the last phaseflow error in the log, with its fix. KFP's own error only names the failed step."""
    reasons = re.findall(r"phaseflow\.errors\.\w+: (.+)", read_log(folder))
    return str(reasons[-1]) if reasons else ""


def is_alive(record: Record) -> bool:
    """Whether the run's process is running. The PID may have been reused by another process."""
    pid = record.get("pid")
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not Path("/proc/self/stat").exists():  # not Linux
        return True
    state, ticks = _process(pid)
    return state not in {"", "Z"} and record.get("start_ticks") in {None, ticks}


def _process(pid: int) -> tuple[str, int]:
    """Return state and start time of a process, in ticks since boot, which clock changes do not affect."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[19])


def scratch(run_id: str) -> Path:
    """Return the run's own temporary folder, because KFP leaves one behind for each step."""
    return Path(tempfile.gettempdir()) / f"phaseflow-run-{run_id}"


def _make_scratch(run_id: str) -> Path:
    """Create the temporary folder for this user only.

    Raises PlatformError if another user owns it, who could put code there.
    """
    path = scratch(run_id)
    path.mkdir(mode=0o700, exist_ok=True)
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        raise PlatformError(f"{path} is not this user's own folder", fix="Remove it, and start the run again")
    return path


class Runner:
    """Starts queued runs and records how they end. A malformed run fails without affecting others."""

    def __init__(self, state: State, settings: Settings, beat: Callable[[], None] = lambda: None) -> None:
        self.state = state
        self.settings = settings
        self._beat = beat
        self._environments = Environments()
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._canceled: set[str] = set()
        """Canceled runs whose process may still exist."""
        self._starts: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def create(self, record: Record, pipeline: dict[str, Any], parameters: dict[str, Any]) -> Record:
        """Queue a run; its process starts when a slot is free. Raises PlatformError if the disk is full."""
        folder = self.state.folder("runs", record["run_id"])
        try:
            write_atomic(folder / "pipeline.yaml", yaml.safe_dump(pipeline, sort_keys=True).encode())
            write_atomic(folder / "parameters.json", json.dumps(parameters).encode())
            self.state.write("runs", record["run_id"], record)
        except BaseException:  # never keep a partial run
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._wake.set()
        return record

    async def iterate(self) -> None:
        """Start queued runs and record ended ones, then wait for an event or `LOOK_SECONDS`.

        Raises PlatformError or OSError if the disk or the system fails.
        """
        await self._look()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._wake.wait()
        self._wake.clear()

    async def _look(self) -> None:
        failures: list[Exception] = []
        records, damaged = self.state.load("runs")
        for broken in damaged:
            with _collect_failure(failures):
                self._fail_damaged(broken)
        running = 0
        for record in records:
            if record["state"] == RUNNING:
                with _collect_failure(failures):
                    running += record["run_id"] in self._children or not self._settle(record)
        for record in reversed(records):
            if record["state"] == PENDING and running < PARALLEL:
                with _collect_failure(failures):
                    running += await self._try_start(record)
                self._beat()
        self._clean(records)
        if failures:
            raise failures[0]

    async def _try_start(self, record: Record) -> bool:
        """Start a run and return whether it runs now. Any error fails only this run.

        If the disk or the system fails, the run stays queued for `MAX_STARTS` attempts. Raises PlatformError if the
        failure can't be written.
        """
        run_id = record["run_id"]
        try:
            started = await self._start(record)
        except OSError as error:
            self._starts[run_id] += 1
            logger.warning("the run %s can't be started: %s: %s", run_id, type(error).__name__, error)
            if self._starts[run_id] >= MAX_STARTS:
                self._end(record, FAILED, f"The run can't be started: {error}. Read the engine's log.")
            return False
        except Exception as error:  # its record or its project is wrong
            logger.warning("the run %s can't be started: %s: %s", run_id, type(error).__name__, error)
            message = str(error) if isinstance(error, PhaseflowError) else f"{type(error).__name__}: {error}"
            self._end(record, FAILED, f"The run can't be started: {message}")
            return False
        self._starts.pop(run_id, None)
        return started

    async def _start(self, record: Record) -> bool:
        run_id = record["run_id"]
        folder = self.state.folder("runs", run_id)
        for name in ("pipeline.yaml", "parameters.json"):
            if not (folder / name).is_file():
                raise PlatformError(f"Its folder holds no {name}", fix="Start the run again")
        python = self.settings.python(await self._environments.of(record["pipeline_name"]))
        if not python.is_file():
            raise PlatformError(f"{python} does not exist", fix="Make it by `make setup`")
        temporary = _make_scratch(run_id)
        with (folder / "log.txt").open("ab") as log:
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
        self._children[run_id] = child
        waiting = asyncio.create_task(self._wait(run_id, child))
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)
        try:
            if self._is(PENDING, run_id):  # not canceled in the meantime
                process = {"pid": child.pid, "start_ticks": _process(child.pid)[1] or None}
                self.state.write("runs", run_id, record | {"state": RUNNING, "started_at": now(), **process})
                return True
        except PlatformError as error:  # the disk is full
            raise OSError(str(error)) from error
        finally:
            if not self._is(RUNNING, run_id):  # a run without a record must not continue
                _kill(child.pid)
                await waiting
        return False

    def _is(self, state: str, run_id: str) -> bool:
        record = self.state.read("runs", run_id)
        return record is not None and record["state"] == state

    async def _wait(self, run_id: str, child: asyncio.subprocess.Process) -> None:
        await child.wait()
        self._children.pop(run_id, None)
        shutil.rmtree(scratch(run_id), ignore_errors=True)
        self._wake.set()

    def _settle(self, record: Record) -> bool:
        """Record the end of a run whose process has exited, and clean up. Returns False if it is still running."""
        if is_alive(record):
            return False
        shutil.rmtree(scratch(record["run_id"]), ignore_errors=True)
        folder = self.state.folder("runs", record["run_id"])
        try:
            outcome = json.loads((folder / "outcome.json").read_bytes())
            state, error = outcome["state"], outcome["error"]
            if state not in ENDED or not isinstance(error, str):
                raise ValueError("it holds no state of an ended run")
            error = error and (_reason(folder) or error)[:MAX_ERROR]
        except FileNotFoundError:
            state, error = FAILED, "The run's process was killed before it ended."
        except (ValueError, TypeError, LookupError, RecursionError, *UNREADABLE) as problem:
            state, error = FAILED, f"The run's outcome.json can't be read: {problem}."
        self._end(record, state, f"{error}\n{read_log(folder, TAIL)}" if error else "")
        return True

    def _end(self, record: Record, state: str, error: str) -> None:
        self._starts.pop(record["run_id"], None)
        error = error.encode(errors="replace").decode()  # a step may print invalid text
        self.state.write(
            "runs",
            record["run_id"],
            record | {"state": state, "finished_at": now(), "error": {"code": 13, "message": error} if error else None},
        )

    def _fail_damaged(self, damaged: Damaged) -> None:
        """Replace an unusable record with a failed one that keeps its valid fields."""
        logger.warning("the record of the run %s is damaged: %s", damaged.identity, damaged.problem)
        texts = {
            key: value
            for key in ("display_name", "experiment_id", "created_at", "scheduled_at")
            if isinstance(value := damaged.content.get(key), str)
        }
        blank: Record = {
            "run_id": damaged.identity,
            "experiment_id": "",
            "display_name": damaged.identity,
            "storage_state": "AVAILABLE",
            "pipeline_version_reference": None,
            "runtime_config": {"parameters": {}},
            "created_at": now(),
            "scheduled_at": now(),
            "pipeline_name": "",
        }
        self._end(blank | texts, FAILED, f"The run's record is damaged: {damaged.problem}. Start the run again.")

    def terminate(self, run_id: str) -> bool:
        """End a run and all its processes. Returns False if the run does not exist."""
        record = self.state.read("runs", run_id)
        if record is None:
            return False
        if record["state"] not in ENDED:
            self._end(record, CANCELED, "")
            self._canceled.add(run_id)
            if is_alive(record):
                _kill(record["pid"])
            self._wake.set()
        return True

    def delete(self, run_id: str) -> None:
        """Remove a run with all its files. A running run is ended first."""
        record = self.state.read("runs", run_id)
        self.terminate(run_id)
        if record is not None and record["state"] not in ENDED and is_alive(record):
            return  # its processes may still write; the next request removes the ended run
        shutil.rmtree(self.state.folder("runs", run_id), ignore_errors=True)

    def _clean(self, records: list[Record]) -> None:
        """Remove the files of canceled runs and the oldest ended runs."""
        for run_id in list(self._canceled):
            record = self.state.read("runs", run_id)
            if record is None or not is_alive(record):
                shutil.rmtree(scratch(run_id), ignore_errors=True)
                self._canceled.discard(run_id)
        ended = [record for record in records if record["state"] in ENDED]
        for record in ended[MAX_ENDED_RUNS:]:
            shutil.rmtree(self.state.folder("runs", record["run_id"]), ignore_errors=True)


@contextlib.contextmanager
def _collect_failure(failures: list[Exception]) -> Iterator[None]:
    """Collect the failure of one run, so that the others continue."""
    try:
        yield
    except Exception as error:  # any error must not stop the others
        failures.append(error)


def _kill(pid: int) -> None:
    """Kill a run's process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
