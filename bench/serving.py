"""What a prediction over HTTP costs, beside the floor: bare uvicorn and onnxruntime with the same model and the same answer.

The service validates, logs durably, counts bins, and keeps what live quality needs; the floor does none of it. One row a request,
in JSON. Rounds alternate, so that a slow moment of the machine meets both; medians of the rounds are printed.

Usage: .venvs/serving/bin/python bench/serving.py [--rounds 5] [--seconds 3] [--connections 8] [--project titanic]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from phaseflow import registry  # noqa: E402  # found by the line above
from phaseflow.settings import from_environment  # noqa: E402  # likewise

TRAIN = """
import json, sys
from pathlib import Path
from phaseflow import registry
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
settings, project = from_environment(), registry.get(sys.argv[1])
rows = source.rows(source.load(project, settings, Store(settings.store)), project)
trained = registry.load(project.train)(rows, project, project.candidates[-1])
Path(sys.argv[2]).write_bytes(trained.onnx)
print(json.dumps(trained.classes))
"""
FLOOR = """
import sys, msgspec, numpy as np, onnxruntime, uvicorn
from phaseflow import registry
project = registry.get(sys.argv[1])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
numeric = {c.name: c.kind in {"number", "integer", "boolean"} for c in project.schema.features}
decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
names = [output.name for output in session.get_outputs()]
async def app(scope, receive, send):
    row = decode((await receive())["body"])
    feeds = {}
    for name, number in numeric.items():
        value = row.get(name)
        if number:
            feeds[name] = np.array([[np.nan if value is None else value]], np.float32)
        else:
            feeds[name] = np.array([["" if value is None else value]], object)
    said = session.run(None, feeds)
    body = encode({name: values.tolist() for name, values in zip(names, said)})
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
uvicorn.run(app, port=int(sys.argv[3]), loop="uvloop", http="httptools", log_level="warning", access_log=False, lifespan="off")
"""


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, times: list[float], until: float) -> None:
        self.request, self.times, self.until = request, times, until
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.begin = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Count an answer that is whole."""
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self.received.decode()))
            return
        self.times.append(now - self.begin)
        self.received = b""
        if now < self.until:
            self._ask()
        else:
            self.transport.close()
            self.done.set_result(None)


Figures = tuple[float, float, float, float]


def cpu(server: psutil.Process) -> float:
    """Seconds of processor time that it took so far."""
    times = server.cpu_times()
    return float(times.user + times.system)


async def load(server: psutil.Process, port: int, path: str, body: bytes, connections: int, seconds: float) -> Figures:
    """Requests a second; 50th and 99th percentile in milliseconds; microseconds of processor time a request."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    times: list[float] = []
    begin, used = time.perf_counter(), cpu(server)
    pairs = [
        await asyncio.get_running_loop().create_connection(
            lambda: Client(head.encode() + body, times, begin + seconds), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for _, client in pairs))
    rate = len(times) / (time.perf_counter() - begin)
    times.sort()
    spent = (cpu(server) - used) / len(times) * 1e6
    return rate, times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000, spent


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def process(arguments: list[str], environment: dict[str, str], port: int) -> Iterator[psutil.Process]:
    """A server, from when it listens on."""
    running = subprocess.Popen(arguments, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        while running.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait()


def home(folder: Path, name: str) -> Path:
    """A home whose cache holds a version of the project, and its model's file."""
    settings = from_environment()
    versions = folder / "serving" / "models" / name
    (versions / "1").mkdir(parents=True)
    model = versions / "1" / "model.onnx"
    command = [str(settings.python(registry.get(name).family)), "-c", TRAIN, name, str(model)]
    environment = os.environ | {"PHASEFLOW_HOME": str(folder), "PHASEFLOW_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    content = model.read_bytes()
    manifest: dict[str, Any] = {
        "candidate": registry.get(name).candidates[-1].name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "snapshot": "",
        "created": "2026-01-01T00:00:00Z",
        "metrics": {},
        "classes": json.loads(said.splitlines()[-1]) or None,
        "reference": [
            {"feature": c.name, "shares": [0.0] * 12, "edges": list(range(10)), "values": []}
            if c.kind in {"number", "integer"}
            else {"feature": c.name, "shares": [0.0, 0.0], "edges": [], "values": []}
            for c in registry.get(name).schema.features
            if c.name in registry.get(name).watched
        ],
    }
    about = json.dumps(manifest).encode()
    (versions / "1" / "model.json").write_bytes(about)
    (versions / "current.json").write_text(
        json.dumps({"version": "1", "sha256": manifest["sha256"], "manifest_sha256": hashlib.sha256(about).hexdigest()})
    )
    return model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--project", default="titanic")
    told = parser.parse_args()
    body = json.dumps(dict(registry.get(told.project).example)).encode()
    with tempfile.TemporaryDirectory() as folder:
        model = home(Path(folder), told.project)
        ours, floor = free_port(), free_port()
        environment = os.environ | {
            "PHASEFLOW_HOME": folder,
            "PHASEFLOW_MLFLOW_URL": f"http://127.0.0.1:{free_port()}",  # away: nothing disturbs
            "PYTHONPATH": str(ROOT),
        }
        service = [sys.executable, "-m", "services.serving", "--port", str(ours)]
        bare = [sys.executable, "-c", FLOOR, told.project, str(model), str(floor)]
        found: dict[tuple[str, int], list[Figures]] = {}
        with process(service, environment, ours) as ours_process, process(bare, environment, floor) as floor_process:
            cases = {
                "floor": (floor_process, floor, "/"),
                "service": (ours_process, ours, f"/{told.project}/predict"),
            }
            for turn in range(told.rounds + 1):
                for connections in (1, told.connections):
                    for case, (server, port, path) in cases.items():
                        figures = uvloop.run(load(server, port, path, body, connections, told.seconds))
                        if turn:  # the first round warms up
                            found.setdefault((case, connections), []).append(figures)
    print(f"{told.project}, one row a request, medians of {told.rounds} rounds of {told.seconds:g} s")
    for connections in (1, told.connections):
        spent = {}
        for case in cases:
            rate, p50, p99, used = (statistics.median(values) for values in zip(*found[case, connections], strict=True))
            spent[case] = used, p50
            print(
                f"{connections} connections  {case:8} {rate:7.0f} requests/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   "
                f"{used:5.0f} us of CPU a request"
            )
        ratios = [ours / bare for ours, bare in zip(spent["service"], spent["floor"], strict=True)]
        print(f"{connections} connections  ratio to the floor: CPU {ratios[0]:.2f}, p50 {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
