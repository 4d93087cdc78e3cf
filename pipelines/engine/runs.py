"""Runs as processes: started in a family's interpreter, at most `PARALLEL` at once, found again after a restart."""

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

from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.log import logger
from phaseflow.settings import ROOT, Settings
from phaseflow.store import write_atomic
from pipelines.engine.family import Families
from pipelines.engine.state import ENDED, UNREADABLE, Damaged, Record, State, now

PARALLEL: Final = 2
KEPT: Final = 50
TAIL: Final = 4000
"""Bytes of the log that a failed run's error quotes."""
MAX_LOG: Final = 4 << 20
"""Bytes of a log that are read, its last ones: a step may print without end."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at the runs, where nothing wakes the runner earlier."""
MAX_STARTS: Final = 3
"""Tries to start a run while the disk or the system fails."""
MAX_ERROR: Final = 4000
"""Characters of what a step raised."""


def log_of(folder: Path, tail: int = MAX_LOG) -> str:
    """What the run printed last, at most `tail` bytes of it."""
    try:
        with (folder / "log.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - tail))
            return file.read(tail).decode(errors="replace")
    except UNREADABLE:
        return ""


def _reason(folder: Path) -> str:
    """The error that a step of ours raised last, with its fix: kfp's own says only which step failed."""
    reasons = re.findall(r"phaseflow\.errors\.\w+: (.+)", log_of(folder))
    return str(reasons[-1]) if reasons else ""


def alive(record: Record) -> bool:
    """Whether the run's process is running: its number may be another process's by now."""
    pid = record.get("pid")
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not Path("/proc/self/stat").exists():  # no Linux
        return True
    state, ticks = _process(pid)
    return state not in {"", "Z"} and record.get("start_ticks") in {None, ticks}


def _process(pid: int) -> tuple[str, int]:
    """State and start of a process, the latter in ticks since the machine's own: no change of the clock moves it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[19])


def scratch(run_id: str) -> Path:
    """The run's own temporary folder: KFP leaves one behind for each step."""
    return Path(tempfile.gettempdir()) / f"phaseflow-run-{run_id}"


def _make_scratch(run_id: str) -> Path:
    """Make it for this user alone; raises PlatformError where somebody else has made it, who could put code there."""
    path = scratch(run_id)
    path.mkdir(mode=0o700, exist_ok=True)
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        raise PlatformError(f"{path} is not this user's own folder", fix="Remove it, and start the run again")
    return path


class Runner:
    """Starts queued runs, and notes how each ends. A run that is malformed fails by itself."""

    def __init__(self, state: State, settings: Settings, beat: Callable[[], None] = lambda: None) -> None:
        self.state = state
        self.settings = settings
        self._beat = beat
        self._families = Families()
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._canceled: set[str] = set()
        """Runs whose process may still be there."""
        self._starts: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def create(self, record: Record, pipeline: dict[str, Any], parameters: dict[str, Any]) -> Record:
        """Queue a run; its process starts when there is room. Raises PlatformError when the disk is full."""
        folder = self.state.folder("runs", record["run_id"])
        try:
            write_atomic(folder / "pipeline.yaml", yaml.safe_dump(pipeline, sort_keys=True).encode())
            write_atomic(folder / "parameters.json", json.dumps(parameters).encode())
            self.state.write("runs", record["run_id"], record)
        except BaseException:  # half a run is none
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._wake.set()
        return record

    async def iterate(self) -> None:
        """Start what is queued and note what ended, then wait until there may be something to do.

        Raises PlatformError or OSError where the disk or the system fails.
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
            with _collected(failures):
                self._fail_damaged(broken)
        running = 0
        for record in records:
            if record["state"] == "RUNNING":
                with _collected(failures):
                    running += record["run_id"] in self._children or not self._settle(record)
        for record in reversed(records):
            if record["state"] == "PENDING" and running < PARALLEL:
                with _collected(failures):
                    running += await self._try_start(record)
                self._beat()
        self._clean(records)
        if failures:
            raise failures[0]

    async def _try_start(self, record: Record) -> bool:
        """Whether it runs now: whatever goes wrong is this run's own failure.

        Where the disk or the system fails, it stays queued for `MAX_STARTS` tries. Raises PlatformError where its failure
        can't be written.
        """
        run_id = record["run_id"]
        try:
            started = await self._start(record)
        except OSError as error:
            self._starts[run_id] += 1
            logger.warning("the run %s can't be started: %s: %s", run_id, type(error).__name__, error)
            if self._starts[run_id] >= MAX_STARTS:
                self._end(record, "FAILED", f"The run can't be started: {error}. Read the engine's log.")
            return False
        except Exception as error:  # its own record or project is wrong
            logger.warning("the run %s can't be started: %s: %s", run_id, type(error).__name__, error)
            message = str(error) if isinstance(error, PhaseflowError) else f"{type(error).__name__}: {error}"
            self._end(record, "FAILED", f"The run can't be started: {message}")
            return False
        self._starts.pop(run_id, None)
        return started

    async def _start(self, record: Record) -> bool:
        run_id = record["run_id"]
        folder = self.state.folder("runs", run_id)
        for name in ("pipeline.yaml", "parameters.json"):
            if not (folder / name).is_file():
                raise PlatformError(f"Its folder holds no {name}", fix="Start the run again")
        python = self.settings.python(await self._families.of(record["pipeline_name"]))
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
            if self._is("PENDING", run_id):  # nobody has cancelled it meanwhile
                process = {"pid": child.pid, "start_ticks": _process(child.pid)[1] or None}
                self.state.write("runs", run_id, record | {"state": "RUNNING", "started_at": now(), **process})
                return True
        except PlatformError as error:  # the disk is full
            raise OSError(str(error)) from error
        finally:
            if not self._is("RUNNING", run_id):  # a run that nobody can see must not go on
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
        """Note the end of a run whose process is gone, and remove what it left; false where it is running."""
        if alive(record):
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
            state, error = "FAILED", "The run's process was killed before it ended."
        except (ValueError, TypeError, LookupError, RecursionError, *UNREADABLE) as problem:
            state, error = "FAILED", f"The run's outcome.json can't be read: {problem}."
        self._end(record, state, f"{error}\n{log_of(folder, TAIL)}" if error else "")
        return True

    def _end(self, record: Record, state: str, error: str) -> None:
        self._starts.pop(record["run_id"], None)
        error = error.encode(errors="replace").decode()  # a step may say what is no text
        self.state.write(
            "runs",
            record["run_id"],
            record | {"state": state, "finished_at": now(), "error": {"code": 13, "message": error} if error else None},
        )

    def _fail_damaged(self, damaged: Damaged) -> None:
        """Put a failed record in the place of one that can't be used, with what of it can be shown."""
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
        self._end(blank | texts, "FAILED", f"The run's record is damaged: {damaged.problem}. Start the run again.")

    def terminate(self, run_id: str) -> bool:
        """End a run and all its processes; false where there is none such."""
        record = self.state.read("runs", run_id)
        if record is None:
            return False
        if record["state"] not in ENDED:
            self._end(record, "CANCELED", "")
            self._canceled.add(run_id)
            if alive(record):
                _kill(record["pid"])
            self._wake.set()
        return True

    def delete(self, run_id: str) -> None:
        """Remove a run and all that it wrote; one that is running is ended first."""
        record = self.state.read("runs", run_id)
        self.terminate(run_id)
        if record is not None and record["state"] not in ENDED and alive(record):
            return  # its processes write until they are gone: it is an ended run now, which the next request removes
        shutil.rmtree(self.state.folder("runs", run_id), ignore_errors=True)

    def _clean(self, records: list[Record]) -> None:
        """Remove what cancelled runs left, and the oldest ended runs."""
        for run_id in list(self._canceled):
            record = self.state.read("runs", run_id)
            if record is None or not alive(record):
                shutil.rmtree(scratch(run_id), ignore_errors=True)
                self._canceled.discard(run_id)
        ended = [record for record in records if record["state"] in ENDED]
        for record in ended[KEPT:]:
            shutil.rmtree(self.state.folder("runs", record["run_id"]), ignore_errors=True)


@contextlib.contextmanager
def _collected(failures: list[Exception]) -> Iterator[None]:
    """Keep the failure of one run from the others."""
    try:
        yield
    except Exception as error:  # whatever it is, the others go on
        failures.append(error)


def _kill(pid: int) -> None:
    """End a run's process and all that it has started: they are a group of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
