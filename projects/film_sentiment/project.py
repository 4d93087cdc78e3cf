"""Film sentiment: is a sentence about a film positive? Words and pairs of words are compared with an LSTM."""

from phaseflow import Candidate, Column, Drift, File, Gate, Metric, Project, Resources, Schema, Source

FILES = "https://raw.githubusercontent.com/dennybritz/cnn-text-classification-tf/18762b459e21d9c70e5c242f8d43fc4e6db37a0d/data/rt-polaritydata"

project = Project(
    name="film_sentiment",
    title="Film sentiment",
    phase=3,
    environment="language",
    description="Does a sentence about a film mean well? Embedding and LSTM in PyTorch, against words and pairs of words.",
    source=Source(
        url=f"{FILES}/rt-polarity.pos",
        sha256="4134882974a28d0c7b5151256f0e33a6169984ee7372c279e673f1114f475d58",
        mirror="rt_polarity.pos",
        more=(
            File(
                url=f"{FILES}/rt-polarity.neg",
                sha256="2d11cfbc790f1cd96d78339f41ce53ced1efa83cd22d37d6788fa3fe3d17e2fd",
                mirror="rt_polarity.neg",
            ),
        ),
        sample="film_sentiment.data:sample",
        read="film_sentiment.data:read",
        license="free for research (Pang and Lee 2005, sentence polarity 1.0)",
        minimum_rows=1000,
    ),
    schema=Schema(
        features=(Column(name="review", kind="text", description="a sentence about a film"),),
        target=Column(name="sentiment", kind="category", allowed=("negative", "positive")),
    ),
    transform="film_sentiment.data:transform",
    train="film_sentiment.model:train",
    group="review",  # the wording, without punctuation and case
    candidates=(
        Candidate(name="bag_of_words", params={"C": 2.0}),
        Candidate(name="words_and_pairs", params={"C": 1.0, "ngram_size": 2}),
        Candidate(name="lstm", params={"width": 32, "memory": 24, "epochs": 7, "rate": 0.02}),
    ),
    metrics=(
        Metric(name="accuracy", threshold=0.70),
        Metric(name="roc_auc"),
        Metric(name="log_loss"),
        Metric(name="brier"),
    ),
    gate=Gate(minimum_gain=0.002, latency_ms=100, size_mb=20),
    drift=Drift(scenario="film_sentiment.drift:simulate"),
    resources=Resources(cpu=1, memory_mb=3000),
    example={"review": "the plot is thin , but the cast is a delight"},
    tags=("text", "intermediate"),
)
