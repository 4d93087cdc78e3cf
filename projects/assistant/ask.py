"""`python -m projects.assistant.ask "how do i clean the lamp ?"`: retrieve a help page and answer from it.

The service's champion answers. With `--endpoint`, the OpenAI-compatible endpoint at `OPENAI_BASE_URL` answers instead.
"""

from __future__ import annotations

import argparse
import sys

import httpx

from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import from_environment
from projects.assistant import endpoint, prompts, retrieval, shop


def main(arguments: list[str] | None = None) -> int:
    """Print the title of the retrieved page and the answer."""
    parser = argparse.ArgumentParser(prog="projects.assistant.ask", description=__doc__)
    parser.add_argument("question")
    parser.add_argument("--endpoint", action="store_true", help="send the question to the endpoint at OPENAI_BASE_URL")
    args = parser.parse_args(arguments)
    (page,) = retrieval.retriever(shop.pages(shop.FURNITURE)).invoke(args.question)
    row = {"instruction": args.question, "context": page.page_content}
    print(f"page: {page.metadata['title']}")
    try:
        prompt, *_ = prompts.newest(prompts.load())
        print(f"answer: {endpoint.ask(prompt.text, row) if args.endpoint else predict(row)}")
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def predict(row: dict[str, str]) -> str:
    """Return the champion's answer; raise PlatformError if the service does not respond with one."""
    url = f"{from_environment().serving('assistant')}/assistant/predict"
    try:
        response = httpx.post(url, json=row, timeout=30, trust_env=False)
        response.raise_for_status()
        return str(response.json()["predictions"][0]["text"])
    except (httpx.HTTPError, KeyError) as error:
        raise PlatformError(
            f"The request to {url} failed: {error}",
            fix="Start the platform with `phaseflow up`, then run `phaseflow run assistant`",
        ) from error


if __name__ == "__main__":
    raise SystemExit(main())
