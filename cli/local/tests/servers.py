"""A small server as the program of a home, and what it says of itself."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import httpx
import psutil

from cli.local import lifecycle, processes, supervisor
from cli.local.program import Health, Program
from phaseflow.settings import Settings

SERVER = """
import http.server, json, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass  # an orphan's output is closed
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"inner": {"status": "fine"}, "child": child.pid, **os.environ}).encode())
print("here I am", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


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
    return Program(**{**values, **changes})  # type: ignore[arg-type]  # values of several types


def pid(settings: Settings) -> int:
    return int(supervisor.states(settings)["server"]["pid"])


def kill_supervisor(settings: Settings) -> None:
    """Kill only supervisord, as the system does if memory is short."""
    os.kill(supervisor.call(settings, "supervisor.getPID"), signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def listener(settings: Settings) -> int | None:
    """PID of this home's process that listens on the program's port."""
    for process in processes.members(settings.home):
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == settings.port("serving"):
                    return process.pid
    return None


def is_healthy(program: Program, settings: Settings) -> bool:
    """What `status` says of the program."""
    with httpx.Client() as client:
        return lifecycle.healthy(program, supervisor.states(settings)["server"], client, settings)
