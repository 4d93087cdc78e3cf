"""`python -m pipelines.run --project P --snapshot H --run R`: submit a project's pipeline and print its verdict.

It uses KFP's SDK and waits until the run ends.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Final

from kfp import Client
from kfp_server_api import ApiException
from urllib3.exceptions import HTTPError

from phaseflow import discovery, errors, log
from phaseflow.clients.kfp import ENDED, SUCCEEDED, TOKEN
from phaseflow.contract import Project
from phaseflow.errors import PermanentError, PhaseflowError, PlatformError
from phaseflow.log import logger
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from pipelines.compile import to_yaml

DEADLINE: Final = 3600
"""Maximum duration of a run, in seconds."""
POLL_SECONDS: Final = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Run the pipeline and print the verdict as JSON."""
    parser = argparse.ArgumentParser(prog="pipelines.run")
    for name in ("--project", "--snapshot", "--run"):
        parser.add_argument(name, required=True)
    args = parser.parse_args(arguments)
    settings = from_environment()
    log.configure("pipelines.run", settings.log_format)
    try:
        run(settings, discovery.get(args.project), args.snapshot, args.run)
        print(Store(settings.store).read(f"runs/{args.project}/{args.run}/verdict.json").decode())
    except PhaseflowError as error:
        return errors.report(error)
    return 0


def run(settings: Settings, project: Project, snapshot: str, run_key: str) -> None:
    """Submit the run and wait until it ends.

    Raises PermanentError if the engine refuses the run, and PlatformError if the engine is unavailable or the run
    fails.
    """
    url = settings.pipelines_url
    try:
        # The SDK warns of servers before version 2, and prints links to KFP's user interface.
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(sys.stderr):
            client = Client(host=url, existing_token=_token(settings))
            run_id = _submit(client, project, snapshot, run_key)
        _wait(client, run_id)
    except ApiException as error:
        body = error.body or error.reason
        if error.status == 401:
            raise PermanentError(
                f"The engine at {url} refuses the token", fix="Give both the same secret engine_token"
            ) from error
        if error.status and error.status < 500:
            raise PermanentError(f"The engine refuses the run: {body}", fix="Run `make generate`") from error
        raise PlatformError(f"The engine failed: {body}", fix="Read its log by `phaseflow logs pipelines`") from error
    except (HTTPError, TimeoutError) as error:
        raise PlatformError(
            f"The pipeline engine at {url} can't be reached: {error}", fix="Start it by `phaseflow up`"
        ) from error


def _token(settings: Settings) -> str | None:
    """Return the engine's token. None if there is none: a KFP server needs none."""
    try:
        return settings.secret(TOKEN)
    except PlatformError:
        return None


def _submit(client: Any, project: Project, snapshot: str, run_key: str) -> str:
    """Start the run of the compiled pipeline, and return its id."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{project.name}.yaml"
        path.write_text(to_yaml(project))
        submitted = client.create_run_from_pipeline_package(
            str(path), arguments={"snapshot": snapshot, "run": run_key}, run_name=f"{project.name} {run_key}"
        )
    return str(submitted.run_id)


def _wait(client: Any, run_id: str) -> None:
    """Wait for the end of the run. The SDK's own function does not return if a run is canceled."""
    begin, state = time.monotonic(), ""
    while time.monotonic() - begin < DEADLINE:
        record = client.get_run(run_id)
        if record.state == SUCCEEDED:
            return
        if record.state in ENDED:
            message = record.error.message if record.error else ""
            raise PlatformError(
                f"The pipeline run ended with state {record.state}: {message}", fix="Read its log above"
            )
        if record.state != state:
            state = record.state
            logger.info("the pipeline run is %s after %d s", state, time.monotonic() - begin)
        time.sleep(POLL_SECONDS)  # the API has no notifications
    raise PlatformError(f"The run took longer than {DEADLINE} s", fix="Read its log")


if __name__ == "__main__":
    sys.exit(main())
