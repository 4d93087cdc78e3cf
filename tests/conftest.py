"""One platform for all tests of this folder: real processes in their own home, without a network if possible."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.local import report
from phaseflow.discovery import all_projects
from phaseflow.settings import ROOT, Settings, from_environment
from tests.names import Resolver
from tests.tally import Tally

ORDER = ("test_loop.py", "test_new.py", "security", "test_documentation.py", "faults")
"""The loop's tests need a fresh platform. The fault tests run last, since they kill processes that the others need."""
TALLY = pytest.StashKey[Tally]()


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The platform under test, and the result of the demo on it."""

    environment: dict[str, str]
    settings: Settings
    story: dict[str, Any]

    def command(self, *arguments: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run `phaseflow ARGUMENTS`."""
        completed = subprocess.run(
            [ROOT / "bin" / "phaseflow", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and completed.returncode != 0:
            output = completed.stdout + completed.stderr
            pytest.fail(f"phaseflow {' '.join(arguments)} ended with {completed.returncode}:\n{output}")
        return completed

    def json(self, *arguments: str, timeout: float = 600) -> Any:
        """Run `phaseflow ARGUMENTS --json` and parse its output."""
        return json.loads(self.command(*arguments, "--json", timeout=timeout).stdout)

    def get(self, url: str) -> Any:
        """Return the JSON response of a URL."""
        response = httpx.get(url, timeout=10)
        response.raise_for_status()
        return response.json()

    def programs(self) -> dict[str, dict[str, Any]]:
        """Return state, pid and health of each program by name."""
        status = report.status(self.settings)
        return {program["name"]: program for program in status["programs"]}


def pytest_configure(config: pytest.Config) -> None:
    """Create the table that all tests share."""
    config.stash[TALLY] = Tally()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by ORDER; the order within a module is unchanged."""
    here = Path(__file__).parent

    def position(item: pytest.Item) -> int:
        try:
            return ORDER.index(item.path.relative_to(here).parts[0])
        except ValueError:
            return -1

    items.sort(key=position)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    lines = config.stash[TALLY].lines()
    if lines:
        terminalreporter.section("attacks and faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """The table that the session prints at its end."""
    return pytestconfig.stash[TALLY]


@pytest.fixture(scope="session")
def names() -> list[str]:
    """DNS names that any process has looked up since the tests began; empty if the tests are not isolated."""
    return Resolver().names if os.environ.get("PHASEFLOW_ISOLATED") else []


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> Iterator[Platform]:
    """The platform after one demo; the session fails here if the demo fails.

    To skip the demo while writing a test, set PHASEFLOW_TEST_HOME to the home of a running platform.
    """
    if running_home := os.environ.get("PHASEFLOW_TEST_HOME"):
        environment = os.environ | {"PHASEFLOW_HOME": running_home, "PHASEFLOW_OFFLINE": "1"}
        yield Platform(environment=environment, settings=from_environment(environment), story={})
        return
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "PHASEFLOW_DATA_MIRROR": str(trusted_mirror(tmp_path_factory.mktemp("mirror"))),
        "PHASEFLOW_HOME": str(home),
        "PHASEFLOW_PORT_OFFSET": os.environ.get("PHASEFLOW_TEST_PORT_OFFSET", "20000"),
        "PHASEFLOW_PROJECTS": str(tmp_path_factory.mktemp("projects")),
        "PHASEFLOW_OFFLINE": "1",
        "PHASEFLOW_ONLY": ",".join([*chosen_projects(), "bike_sharing", "bike_rentals"]),  # tests create the last two
    }
    command = [str(ROOT / "bin" / "phaseflow")]
    try:
        demo = subprocess.run([*command, "demo"], env=environment, text=True, check=False, timeout=900)
        story = home / "demo.json"
        if demo.returncode != 0 or not story.exists():
            pytest.fail(f"the demo ended with {demo.returncode}; its logs are above")
        yield Platform(
            environment=environment, settings=from_environment(environment), story=json.loads(story.read_text())
        )
    finally:
        subprocess.run([*command, "down"], env=environment, check=False, timeout=120)


def chosen_projects() -> list[str]:
    """The projects of the platform: a classification, a regression and one of images, or all that need no PyTorch.

    The compliance suite trains and serves every project, on few rows. With PHASEFLOW_TEST_PROJECTS=all, Airflow trains
    every project that needs no PyTorch on its whole sample, which takes minutes.
    """
    if os.environ.get("PHASEFLOW_TEST_PROJECTS") == "all":
        return [project.name for project in all_projects() if project.environment == "tabular"]
    return ["titanic", "house_prices", "from_scratch"]


@pytest.fixture(scope="session")
def trained_platform(platform: Platform) -> Platform:
    """The platform after a first training of every project, so that each has a champion."""
    others = [project["name"] for project in platform.json("projects") if project["name"] != "titanic"]
    with ThreadPoolExecutor(2) as pool:  # the engine runs two pipelines at a time
        list(pool.map(lambda name: platform.command("trigger", name, "--wait"), others))
    return platform


def trusted_mirror(folder: Path) -> Path:
    """Link the files of the data mirror whose checksums match their source into `folder`, and return it.

    The platform refuses a file of another edition. Here it is left out instead, and the project uses its sample.
    """
    mirror_folder = os.environ.get("PHASEFLOW_DATA_MIRROR")
    for file in (file for project in all_projects() for file in project.source.files):
        path = Path(mirror_folder or folder) / file.mirror
        if file.mirror and path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if not file.sha256 or digest in {file.sha256, *file.mirror_sha256}:
                (folder / file.mirror).symlink_to(path)
            else:
                print(f"{path} is another edition than {file.url} and is left out")
    return folder


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real data files."""
    folder = os.environ.get("PHASEFLOW_DATA_MIRROR")
    if not folder:
        pytest.skip("PHASEFLOW_DATA_MIRROR is not set to a folder of real data files")
    return Path(folder)
