"""Scores rows with MLflow alone: `python -I score.py MODEL ROWS RESULT`. This process has no phaseflow of its own.

ROWS is a JSON list of rows. RESULT gets the predictions of all rows together and of each row alone, and the modules of
phaseflow that the model brought.
"""

import importlib.util
import json
import sys
from pathlib import Path

import mlflow.pyfunc
from mlflow.pyfunc.scoring_server import infer_and_parse_data


def main(model_uri: str, rows: str, result: str) -> None:
    """Load the model and write the result."""
    assert importlib.util.find_spec("phaseflow") is None, sys.path
    model = mlflow.pyfunc.load_model(model_uri)
    frame = infer_and_parse_data(
        {"dataframe_records": json.loads(Path(rows).read_text())}, model.metadata.signature.inputs
    )
    content = {
        "together": model.predict(frame).to_dict("records"),
        "alone": [model.predict(frame.iloc[[row]]).to_dict("records")[0] for row in range(len(frame))],
        "modules": sorted(
            str(Path(module.__file__)) for name, module in sys.modules.items() if name.partition(".")[0] == "phaseflow"
        ),
    }
    Path(result).write_text(json.dumps(content))


if __name__ == "__main__":
    main(*sys.argv[1:])
