"""Every command in the README and the documentation is run, or the table says which test runs it or what it needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Final

import httpx
import pytest

from phaseflow import discovery
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.testing import wait_for
from tests.conftest import Platform

pytestmark = [pytest.mark.platform, pytest.mark.timeout(600)]

BLOCK: Final = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
ON_A_CLUSTER: Final = re.compile(r"phaseflow --context|PHASEFLOW_CONTEXT=NAME")

CHAMPION: Final = "--model-uri models:/titanic@champion --env-manager local"
RUN: Final = {
    "bin/phaseflow status": "",
    "bin/phaseflow urls": "",
    "bin/phaseflow up": "",
    "bin/phaseflow doctor": "",
    "bin/phaseflow projects --json": "",
    "bin/phaseflow traffic titanic --rows 500": "",
    "bin/phaseflow traffic titanic --drift --feedback": "--rows 20",
    "bin/phaseflow logs serving --follow": "ends by itself if its output is closed",
    "bin/phaseflow rollback NAME": "titanic",
    "bin/phaseflow promote NAME 3": "titanic and the version that was champion",
    "bin/phaseflow rollback titanic": "",
    "bin/phaseflow clean --dry-run": "",
    "bin/phaseflow clean titanic --dry-run": "",
    "bin/phaseflow forget titanic ID": "an id of a prediction, which the service ships to the log within seconds",
    "bin/phaseflow new bike_rentals --csv bikes.csv --target cnt": "",
    "bin/phaseflow run bike_rentals": "",
    "bin/phaseflow new letters --csv letters.csv --text body --target topic": "",
    "bin/phaseflow new fruit --images photos": "",
    "bin/phaseflow new bike_sharing --csv hour.csv --target cnt": "another name: test_new.py has created it",
    "bin/phaseflow new reviews --csv reviews.csv --text review --target stars": "",
    "bin/phaseflow new leaves --images leaves/ --side 32": "",
    "curl http://127.0.0.1:3000/titanic/predict": "the port",
    "curl http://127.0.0.1:3000/titanic/feedback": "the port and an id",
    f"mlflow models predict {CHAMPION} --input-path rows.json --content-type json": "",
}
"""Commands that this module runs, and what it changes in them."""
WITH_MLFLOW: Final = "pipelines/tests/test_flavor.py:test_titanics_champion_is_scored_by_mlflows"
ELSEWHERE: Final = {
    "export PHASEFLOW_ALERT_RECEIVERS=$HOME/receivers.yaml": "monitoring/tests/test_logins.py:test_the_first_receiver_gets_an_alert",
    "export PHASEFLOW_ENV_FILE=tools.env": "cli/local/tests/test_tools.py:test_airflow_takes_what_is_set",
    "make demo": "tests/conftest.py:platform",
    "make up": "tests/conftest.py:platform",
    "bin/phaseflow demo": "tests/conftest.py:platform",
    "bin/phaseflow demo bike_rentals": "tests/conftest.py:platform",
    "make down": "tests/conftest.py:platform",
    "bin/phaseflow down": "tests/conftest.py:platform",
    "bin/phaseflow trigger titanic --wait": "tests/conftest.py:trained_platform",
    "bin/phaseflow run titanic": "tests/test_documentation.py:test_a_command_runs",
    "bin/phaseflow promote titanic": "tests/test_documentation.py:test_a_command_runs",
    "bin/phaseflow forget titanic 01J9ZQ4T8M5W": "tests/test_documentation.py:test_a_command_runs",
    f"mlflow models serve {CHAMPION} --port 5600": f"{WITH_MLFLOW}_commands",
    "curl http://127.0.0.1:5600/invocations": f"{WITH_MLFLOW}_commands",
}
"""Commands that another function runs with this or another project."""
NOT_RUN: Final = {
    "git clone https://github.com/phaseflow/phaseflow && cd phaseflow": "needs GitHub",
    "make test": "runs these tests",
    "make soak": "takes 30 minutes",
    "make grafana": "needs Grafana's server; cli/local/tests/test_grafana_archive.py installs it from a local one",
    "make cluster": "needs Docker and kind",
    "git pull": "needs GitHub",
    "make cloud CLOUD=aws ENV=small": "needs an account of AWS; terraform/tests/test_cloud_command.py tests its errors",
    "make cloud-down CLOUD=aws ENV=small": "needs an account of AWS",
    "make cloud-down CLOUD=gcp ENV=small": "needs an account of Google Cloud",
    "bin/phaseflow doctor --kind --images": "needs kind, and the registries of the images",
}
"""Commands that need what a machine for tests may lack."""
PICTURES: Final = """
import pathlib
from PIL import Image
for root in ("photos", "leaves"):
    for label, colour in (("apple", (200, 30, 30)), ("pear", (60, 180, 40))):
        folder = pathlib.Path(root) / label
        folder.mkdir(parents=True)
        for number in range(40):
            Image.new("RGB", (40, 40), tuple(part + number for part in colour)).save(folder / f"{number}.png")
"""


def commands(page: Path) -> list[str]:
    """The commands of a page that run on this machine, without comments; those for a cluster are in tests/cluster."""
    lines: list[str] = []
    for block in BLOCK.findall(page.read_text()):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if ON_A_CLUSTER.search(line) and "phaseflow --context" not in line:
                return lines  # from here on, the page is about a cluster
            command = re.sub(r"\s+#\s.*", "", line).strip()
            if command and not ON_A_CLUSTER.search(line):
                lines.append(command.partition(" -H ")[0])
    return lines


def pages() -> list[Path]:
    """The README and the pages of the documentation."""
    documentation = (path for path in (ROOT / "docs").rglob("*.md") if "adr" not in path.parts)
    return [ROOT / "README.md", *sorted(documentation)]


def test_every_command_of_the_documentation_is_in_one_table() -> None:
    documented = {command for page in pages() for command in commands(page)}
    tables = (RUN, ELSEWHERE, NOT_RUN)
    for command in documented:
        assert sum(command in table for table in tables) == 1, f"Add {command!r} to one table of this module"
    assert set().union(*tables) <= documented, "Remove what no page names any more"
    for reference in ELSEWHERE.values():
        file, _, function = reference.partition(":")
        assert f"def {function}(" in (ROOT / file).read_text(), reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the commands name."""
    folder = tmp_path_factory.mktemp("files")
    bikes = [
        "season,temperature,cnt",
        *(f"{'warm' if n % 2 else 'cold'},{n % 31},{n % 31 * 9 + n % 7}" for n in range(200)),
    ]
    topics = {"praise": "good quick friendly", "complaint": "broken late wrong"}
    letters = [(f"{words} letter {n}", topic) for n in range(60) for topic, words in topics.items()]
    for name, lines in {
        "bikes.csv": bikes,
        "hour.csv": bikes,
        "letters.csv": ["body,topic", *(f"{text},{topic}" for text, topic in letters)],
        "reviews.csv": ["review,stars", *(f"{text},{topic}" for text, topic in letters)],
    }.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    rows = {"dataframe_records": [dict(discovery.get("titanic").example)]}
    (folder / "rows.json").write_text(json.dumps(rows))
    subprocess.run([from_environment().python("tabular"), "-c", PICTURES], cwd=folder, check=True)
    return folder


def prediction_id(platform: Platform) -> str:
    """The id of a new prediction."""
    example = dict(discovery.get("titanic").example)
    response = httpx.post(f"{platform.settings.serving_url}/titanic/predict", json=example).raise_for_status()
    return str(response.json()["predictions"][0]["id"])


def runnable(command: str, platform: Platform) -> str:
    """The command with the changes that `RUN` names."""
    url = platform.settings.serving_url
    if command.startswith("curl"):
        (line,) = {line for page in pages() for line in curls(page) if line.startswith(command)}
        line = line.replace("http://127.0.0.1:3000", url)
    else:
        line = {
            "bin/phaseflow traffic titanic --drift --feedback": f"{command} --rows 20",
            "bin/phaseflow logs serving --follow": f"{command} | head -1",
            "bin/phaseflow new bike_sharing --csv hour.csv --target cnt": command.replace(
                "bike_sharing", "hourly_bikes"
            ),
        }.get(command, command)
    if "promote NAME 3" in line:
        line = line.replace("3", str(platform.get(f"{url}/titanic/model")["version"]))
    if re.search(r"\bID\b", line):
        line = re.sub(r"\bID\b", prediction_id(platform), line)
    return line.replace("NAME", "titanic")


def curls(page: Path) -> list[str]:
    """The whole curl commands of a page."""
    blocks = BLOCK.findall(page.read_text())
    return [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines() if line.startswith("curl")]


def with_mlflow(settings: Settings) -> dict[str, str]:
    """The variables with which a shell finds the command `mlflow` and the registry."""
    path = f"{settings.python('tabular').parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "MLFLOW_TRACKING_URI": settings.mlflow_url}


@pytest.mark.parametrize("command", RUN)
def test_a_command_runs(platform: Platform, folder: Path, command: str) -> None:
    line = runnable(command, platform).replace("bin/phaseflow", str(ROOT / "bin" / "phaseflow"))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line.replace("curl ", "curl -fsS ")],
            cwd=folder,
            env=platform.environment | with_mlflow(platform.settings),
            capture_output=True,
            text=True,
            check=False,
        )

    completed = run()
    if " forget " in line and completed.returncode:
        wait_for("the prediction in the log", lambda: run().returncode == 0, 30)
        return
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert completed.stdout
