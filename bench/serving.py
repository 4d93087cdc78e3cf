"""Measure a prediction over HTTP against a floor: uvicorn and onnxruntime alone, with the same model and outputs.

The service validates, logs durably, counts bins and stores the state for live quality; the floor does none of this.
Each request has one row in JSON. The rounds alternate, so that a slow moment of the machine affects both. The medians
of the rounds are printed.

Usage: .venvs/serving/bin/python bench/serving.py [--rounds 5] [--seconds 3] [--connections 8] [--project titanic]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.local import bentoml  # noqa: E402  # needs the path above
from phaseflow import discovery  # noqa: E402  # likewise
from phaseflow.settings import from_environment  # noqa: E402  # likewise
from phaseflow.testing import free_port  # noqa: E402  # likewise

TRAIN = """
import json, sys
from pathlib import Path
from phaseflow import discovery
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
settings, project = from_environment(), discovery.get(sys.argv[1])
rows = source.rows(source.load(project, settings, Store(settings.store)), project)
trained = discovery.load(project.train)(rows, project, project.candidates[-1])
Path(sys.argv[2]).write_bytes(trained.onnx)
print(json.dumps(trained.classes))
"""
FLOOR = """
import sys, msgspec, numpy as np, onnxruntime, uvicorn
from phaseflow import discovery
project = discovery.get(sys.argv[1])
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
    outputs = session.run(None, feeds)
    body = encode({name: values.tolist() for name, values in zip(names, outputs)})
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
uvicorn.run(app, port=int(sys.argv[3]), loop="uvloop", http="httptools", log_level="warning", access_log=False, lifespan="off")
"""


class Client(asyncio.Protocol):
    """One connection that sends the next request as soon as the response is complete."""

    def __init__(self, request: bytes, times: list[float], until: float) -> None:
        self.request, self.times, self.until = request, times, until
        self.completion: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        """Send the first request."""
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.begin = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Record the time of a complete response."""
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            self.completion.set_exception(RuntimeError(self.received.decode()))
            return
        self.times.append(now - self.begin)
        self.received = b""
        if now < self.until:
            self._send()
        else:
            self.transport.close()
            self.completion.set_result(None)


Figures = tuple[float, float, float, float]


def cpu(server: psutil.Process) -> float:
    """CPU seconds that the server and its workers have used."""
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


async def load(server: psutil.Process, port: int, path: str, body: bytes, connections: int, seconds: float) -> Figures:
    """Returns requests per second, the 50th and 99th percentile in milliseconds, and CPU microseconds per request."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    times: list[float] = []
    begin, cpu_before = time.perf_counter(), cpu(server)
    pairs = [
        await asyncio.get_running_loop().create_connection(
            lambda: Client(head.encode() + body, times, begin + seconds), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.completion for _, client in pairs))
    rate = len(times) / (time.perf_counter() - begin)
    times.sort()
    cpu_microseconds = (cpu(server) - cpu_before) / len(times) * 1e6
    return rate, times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000, cpu_microseconds


@contextmanager
def process(arguments: list[str], environment: dict[str, str], port: int) -> Iterator[psutil.Process]:
    """Run a server for the duration of a `with` block, which starts with its first response."""
    running = subprocess.Popen(arguments, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        while running.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=30)
                break
            time.sleep(0.1)
        yield psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait()


def home(folder: Path, name: str) -> Path:
    """Fill the service's model cache in `folder` with one version of the project. Returns the path of the model."""
    settings = from_environment()
    versions = folder / "serving" / "models" / name
    (versions / "1").mkdir(parents=True)
    model = versions / "1" / "model.onnx"
    command = [str(settings.python(discovery.get(name).environment)), "-c", TRAIN, name, str(model)]
    environment = os.environ | {"PHASEFLOW_HOME": str(folder), "PHASEFLOW_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    output = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    content = model.read_bytes()
    manifest: dict[str, Any] = {
        "candidate": discovery.get(name).candidates[-1].name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "snapshot": "",
        "created": "2026-01-01T00:00:00Z",
        "metrics": {},
        "classes": json.loads(output.splitlines()[-1]) or None,
        "reference": [
            {"feature": c.name, "shares": [0.0] * 12, "edges": list(range(10)), "values": []}
            if c.kind in {"number", "integer"}
            else {"feature": c.name, "shares": [0.0, 0.0], "edges": [], "values": []}
            for c in discovery.get(name).schema.features
            if c.name in discovery.get(name).monitored_features
        ],
    }
    about = json.dumps(manifest).encode()
    (versions / "1" / "model.json").write_bytes(about)
    (versions / "current.json").write_text(
        json.dumps({"version": "1", "sha256": manifest["sha256"], "manifest_sha256": hashlib.sha256(about).hexdigest()})
    )
    return model


def main() -> None:
    """Measure and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--project", default="titanic")
    args = parser.parse_args()
    body = json.dumps(dict(discovery.get(args.project).example)).encode()
    with tempfile.TemporaryDirectory() as folder:
        model = home(Path(folder), args.project)
        service_port, floor_port = free_port(), free_port()
        environment = os.environ | {
            "PHASEFLOW_HOME": folder,
            "PHASEFLOW_MLFLOW_URL": f"http://127.0.0.1:{free_port()}",  # not running: no background work
            "PYTHONPATH": str(ROOT),
        }
        service_command = [*bentoml.command(from_environment()), "--port", str(service_port)]
        floor_command = [sys.executable, "-c", FLOOR, args.project, str(model), str(floor_port)]
        measurements: dict[tuple[str, int], list[Figures]] = {}
        with (
            process(service_command, environment, service_port) as service_process,
            process(floor_command, environment, floor_port) as floor_process,
        ):
            cases = {
                "floor": (floor_process, floor_port, "/"),
                "service": (service_process, service_port, f"/{args.project}/predict"),
            }
            for round_number in range(args.rounds + 1):
                for connections in (1, args.connections):
                    for case, (server, port, path) in cases.items():
                        figures = uvloop.run(load(server, port, path, body, connections, args.seconds))
                        if round_number:  # the first round warms up
                            measurements.setdefault((case, connections), []).append(figures)
    print(f"{args.project}, one row per request, medians of {args.rounds} rounds of {args.seconds:g} s")
    for connections in (1, args.connections):
        costs = {}
        for case in cases:
            rate, p50, p99, cpu_microseconds = (
                statistics.median(values) for values in zip(*measurements[case, connections], strict=True)
            )
            costs[case] = cpu_microseconds, p50
            print(
                f"{connections} connections  {case:8} {rate:7.0f} requests/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   "
                f"{cpu_microseconds:5.0f} us of CPU per request"
            )
        ratios = [
            service_cost / floor_cost for service_cost, floor_cost in zip(costs["service"], costs["floor"], strict=True)
        ]
        print(f"{connections} connections  ratio to the floor: CPU {ratios[0]:.2f}, p50 {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
