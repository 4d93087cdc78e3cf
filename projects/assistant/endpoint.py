"""A client for any OpenAI-compatible endpoint, such as vLLM, Ollama, llama.cpp or a hosted provider.

`OPENAI_BASE_URL`, `OPENAI_API_KEY` and `OPENAI_MODEL` configure it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import httpx

from phaseflow.errors import PlatformError
from phaseflow.generation import prompted

SECONDS: Final = 60.0
MAX_TOKENS: Final = 64


def ask(prompt: str, row: Mapping[str, Any]) -> str:
    """Return the completion of a row's prompt; raise PlatformError without an endpoint or if the request fails."""
    base_url, model = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_MODEL")
    if not base_url or not model:
        raise PlatformError(
            "No endpoint is configured",
            fix="Set OPENAI_BASE_URL and OPENAI_MODEL, e.g. to http://127.0.0.1:11434/v1 and llama3.2",
        )
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompted(prompt, {name: text or "" for name, text in row.items()})}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"}
    try:
        response = httpx.post(f"{base_url.rstrip('/')}/chat/completions", json=body, headers=headers, timeout=SECONDS)
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"]).strip()
    except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
        message, *_ = str(error).splitlines() or [""]
        raise PlatformError(
            f"The request to {base_url} failed: {type(error).__name__}: {message}",
            fix=f"Check that the endpoint is running and serves the model {model}",
        ) from error
