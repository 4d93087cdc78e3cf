"""Assistant: a small language model answers a shop's customers. LoRA is compared with retrieval and the untuned model."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Objectives, Project, Resources, Schema, Source

BASE = {
    "base": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
    "base_steps": 500,
}

project = Project(
    name="assistant",
    title="Assistant",
    phase=4,
    environment="language",
    description="A small language model that learns how its shop answers: LoRA, a registry of prompts, retrieval.",
    source=Source(
        url="https://huggingface.co/datasets/databricks/databricks-dolly-15k/resolve/main/databricks-dolly-15k.jsonl",
        sha256="2df9083338b4abd6bceb5635764dab5d833b393b55759dffb0959b6fcbf794ec",
        mirror="databricks-dolly-15k.jsonl",
        sample="assistant.data:sample",
        read="assistant.data:read",
        license="CC BY-SA 3.0 (Databricks 2023)",
        minimum_rows=200,
    ),
    schema=Schema(
        features=(
            Column(name="instruction", kind="text", description="what is asked"),
            Column(
                name="context", kind="text", nullable=True, description="what was found about it, where anything was"
            ),
        ),
        target=Column(name="response", kind="text"),
    ),
    transform="assistant.data:transform",
    train="assistant.model:train",
    evaluate="assistant.model:evaluate",
    group="question",  # the question without its polite phrases
    candidates=(
        Candidate(name="nearest"),
        Candidate(name="form_and_word"),
        Candidate(name="untuned", params=BASE),
        Candidate(name="lora", params={**BASE, "rank": 8, "alpha": 32, "steps": 600, "rate": 0.01}),
    ),
    metrics=(
        Metric(name="exact_match", direction="higher", threshold={"sample": 0.6}),
        Metric(name="token_f1", direction="higher", threshold={"sample": 0.8, "public": 0.05}),
    ),
    gate=Gate(minimum_gain=0.005, latency_ms=2000, size_mb=700),
    drift=Drift(features=("instruction",), scenario="assistant.drift:simulate"),
    objectives=Objectives(latency_ms=2000),
    resources=Resources(cpu=1, memory_mb=4000),
    example={"instruction": "how do i clean the lamp ?", "context": None},
    tags=("text", "generation", "advanced"),
)
