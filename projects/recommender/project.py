"""Recommender: what will a visitor want next? A ranking for each user from implicit feedback, without ratings."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Schema, Source

project = Project(
    name="recommender",
    title="Recommender",
    phase=6,
    description="What a visitor will want next: matrix factorisation of implicit feedback, against what is popular.",
    source=Source(
        url="https://files.grouplens.org/datasets/movielens/ml-100k/u.data",
        sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
        mirror="movielens_100k.data",
        sample="recommender.data:sample",
        read="recommender.data:read",
        license="free for research, no redistribution (GroupLens 1998, MovieLens 100K)",
        minimum_rows=500,
    ),
    schema=Schema(
        features=(Column(name="user", kind="id", description="who is asking; a stranger is welcome"),),
        target=Column(name="items", kind="ranking", description="what was taken in the visit"),
    ),
    temporal_group="user",
    holdout_share=0.2,
    transform="recommender.data:transform",
    train="recommender.model:train",
    evaluate="recommender.model:evaluate",
    candidates=(
        Candidate(name="popularity"),
        Candidate(name="ease", params={"regularization": 100.0}),
        Candidate(name="als", params={"factors": 24, "confidence": 3.0, "regularization": 10.0, "sweeps": 8}),
    ),
    metrics=(
        Metric(name="ndcg", threshold=0.05),
        Metric(name="hit_rate", direction="higher"),
        Metric(name="coverage", threshold=0.15),
    ),
    gate=Gate(minimum_gain=0.002, latency_ms=100, size_mb=20),
    drift=Drift(scenario="recommender.drift:simulate"),
    example={"user": "196"},
    tags=("recommendation", "capstone"),
)
