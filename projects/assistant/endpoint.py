"""Any OpenAI-compatible endpoint (vLLM, Ollama, llama.cpp, a provider): where `OPENAI_BASE_URL`, `OPENAI_API_KEY` and `OPENAI_MODEL` point."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import httpx

from phaseflow.errors import PlatformError
from phaseflow.generation import prompted

SECONDS: Final = 60.0
MOST_TOKENS: Final = 64


def ask(prompt: str, row: Mapping[str, Any]) -> str:
    """What the endpoint's model says to a row's prompt; raises PlatformError where there is none, or it refuses."""
    base, model = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_MODEL")
    if not base or not model:
        raise PlatformError(
            "No endpoint is set",
            fix="Set OPENAI_BASE_URL and OPENAI_MODEL, e.g. to http://127.0.0.1:11434/v1 and llama3.2",
        )
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompted(prompt, {name: text or "" for name, text in row.items()})}],
        "max_tokens": MOST_TOKENS,
        "temperature": 0,
    }
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"}
    try:
        answer = httpx.post(f"{base.rstrip('/')}/chat/completions", json=body, headers=headers, timeout=SECONDS)
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"]).strip()
    except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
        first, *_ = str(error).splitlines() or [""]
        raise PlatformError(
            f"{base} gives no answer: {type(error).__name__}: {first}",
            fix="Look whether it runs, and has that model",
        ) from error
