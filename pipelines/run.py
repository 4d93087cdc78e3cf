"""`python -m pipelines.run --project P --snapshot H --run R`: submit the project's pipeline by KFP's REST, wait, say the verdict."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Final

import httpx

from phaseflow import registry
from phaseflow.errors import PermanentError, PhaseflowError, PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from pipelines.compile import compiled
from pipelines.engine.specification import parsed

DEADLINE: Final = 3600
"""Seconds a run may take."""


def main(arguments: list[str] | None = None) -> int:
    """Run it, and print the verdict as JSON."""
    parser = argparse.ArgumentParser(prog="pipelines.run")
    for name in ("--project", "--snapshot", "--run"):
        parser.add_argument(name, required=True)
    told = parser.parse_args(arguments)
    settings = from_environment()
    try:
        spec, platform = parsed(compiled(registry.get(told.project)))
        run(
            settings,
            spec if platform is None else {"pipeline_spec": spec, "platform_spec": platform},
            told,
        )
        print(Store(settings.store).read(f"runs/{told.project}/{told.run}/verdict.json").decode())
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def run(settings: Settings, spec: object, told: argparse.Namespace) -> None:
    """Submit and wait; raises PlatformError when the engine is away or the run fails."""
    body = {
        "display_name": f"{told.project} {told.run}",
        "pipeline_spec": spec,
        "runtime_config": {"parameters": {"snapshot": told.snapshot, "run": told.run}},
    }
    url = settings.pipelines_url
    try:
        # A connection that is kept between two polls may be closed by the engine in the moment of the next one.
        fresh = httpx.Limits(max_keepalive_connections=0)
        token = settings.bearer("engine_token")
        with httpx.Client(base_url=f"{url}/apis/v2beta1", timeout=30, limits=fresh, headers=token) as client:
            made = client.post("/runs", json=body)
            if made.status_code == 401:
                raise PermanentError(
                    f"The engine at {url} refuses the token", fix="Give both the same secret engine_token"
                )
            if made.is_client_error:
                raise PermanentError(f"The engine refuses the run: {made.text}", fix="Run `make generate`")
            if made.is_error:
                raise PlatformError(f"The engine fails: {made.text}", fix="Read its log by `phaseflow logs pipelines`")
            identity, begin = made.json()["run_id"], time.monotonic()
            while time.monotonic() - begin < DEADLINE:
                found = client.get(f"/runs/{identity}").json()
                if found["state"] == "SUCCEEDED":
                    return
                if found["state"] in {"FAILED", "CANCELED"}:
                    said = (found.get("error") or {}).get("message", "")
                    raise PlatformError(f"The pipeline ended {found['state']}: {said}", fix="Read its log above")
                print(
                    json.dumps({"state": found["state"], "seconds": round(time.monotonic() - begin)}), file=sys.stderr
                )
                time.sleep(1)  # the interval of polling, as the API has no push
    except httpx.HTTPError as error:
        raise PlatformError(
            f"The pipeline engine at {url} can't be reached: {error}", fix="Start it by `phaseflow up`"
        ) from error
    raise PlatformError(f"The run took longer than {DEADLINE} s", fix="Look at its log")


if __name__ == "__main__":
    sys.exit(main())
