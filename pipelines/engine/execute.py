"""`python -m pipelines.engine.execute FOLDER`: run the pipeline of a run's folder by `kfp.local`, in its family's interpreter.

Reads `pipeline.yaml` and `parameters.json`; writes `outcome.json`, last and atomically.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

from kfp import components, local  # noqa: E402  # kfp warns while it is imported

from phaseflow.store import write_atomic  # noqa: E402


def main(folder: Path) -> int:
    """Run it to its end."""
    outcome = {"state": "SUCCEEDED", "error": ""}
    try:
        # Steps run with this interpreter: it is the family's, as the image is on a cluster.
        local.init(
            runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "artifacts"), raise_on_error=True
        )
        pipeline = components.load_component_from_file(str(folder / "pipeline.yaml"))
        pipeline(**json.loads((folder / "parameters.json").read_text()))
    except Exception as error:  # whatever a step raises is this run's outcome
        traceback.print_exc()
        outcome = {"state": "FAILED", "error": f"{type(error).__name__}: {error}"}
    write_atomic(folder / "outcome.json", json.dumps(outcome).encode())
    return 0 if outcome["state"] == "SUCCEEDED" else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
