"""`python -m projects.assistant.compare`: the newest prompts on an endpoint with a few sample questions."""

from __future__ import annotations

import sys
from typing import Final

import numpy as np

from phaseflow import discovery
from phaseflow.errors import PhaseflowError
from projects.assistant import data, endpoint, model, prompts

QUESTIONS: Final = 20
"""Number of questions that are sent to an endpoint for each prompt."""


def main() -> int:
    """Evaluate the newest prompts on the endpoint at OPENAI_BASE_URL with a few sample questions; print the scores."""
    rows = (
        data.read(data.sample(0)).drop_nulls("context").head(QUESTIONS)
    )  # an endpoint can only know the shop's rules from the context
    try:
        for prompt in prompts.newest(prompts.load()):
            responses = [endpoint.ask(prompt.text, row) for row in rows.iter_rows(named=True)]
            metrics = model.evaluate({"text": np.array(responses, dtype=object)}, rows, discovery.get("assistant"))
            print(f"{prompt.identifier}: token F1 {metrics['token_f1']:.3f}")
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
