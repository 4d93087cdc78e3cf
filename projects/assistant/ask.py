"""`python -m projects.assistant.ask "how do i clean the lamp ?"`: retrieve a help page, and answer with it in sight.

The service's champion answers, or with `--endpoint` the OpenAI-compatible one that `OPENAI_BASE_URL` names.
"""

from __future__ import annotations

import argparse
import sys

import httpx

from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import from_environment
from projects.assistant import endpoint, prompts, retrieval, shop


def main(arguments: list[str] | None = None) -> int:
    """Print the page that was found, and the answer."""
    parser = argparse.ArgumentParser(prog="projects.assistant.ask", description=__doc__)
    parser.add_argument("question")
    parser.add_argument("--endpoint", action="store_true", help="ask the endpoint of OPENAI_BASE_URL")
    told = parser.parse_args(arguments)
    (page,) = retrieval.retriever(shop.pages(shop.FURNITURE)).invoke(told.question)
    row = {"instruction": told.question, "context": page.page_content}
    print(f"page: {page.metadata['title']}")
    try:
        prompt, *_ = prompts.newest(prompts.registered())
        print(f"answer: {endpoint.ask(prompt.text, row) if told.endpoint else served(row)}")
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def served(row: dict[str, str]) -> str:
    """What the service's champion says; raises PlatformError where there is none."""
    url = f"{from_environment().serving('assistant')}/assistant/predict"
    try:
        answer = httpx.post(url, json=row, timeout=30, trust_env=False)
        answer.raise_for_status()
        return str(answer.json()["predictions"][0]["text"])
    except (httpx.HTTPError, KeyError) as error:
        raise PlatformError(
            f"{url} gives no answer: {error}", fix="Start the platform by `phaseflow up`, and `phaseflow run assistant`"
        ) from error


if __name__ == "__main__":
    raise SystemExit(main())
