"""Customer segments: which kinds of customers does a wholesaler have? Clustering, so there are no labels."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Schema, Source


def spend(name: str, description: str) -> Column:
    """A column with a customer's yearly spend."""
    return Column(name=name, kind="integer", minimum=0, maximum=10_000_000, unit="a year", description=description)


project = Project(
    name="customer_segments",
    title="Customer segments",
    phase=2,
    description="Which kinds of customers a wholesaler has: K-Means, a mixture, principal components, and the number of segments by silhouette.",
    source=Source(
        url="https://archive.ics.uci.edu/ml/machine-learning-databases/00292/Wholesale%20customers%20data.csv",
        sha256="c3d018c643565b85cee733c4a2ac76dd76e080e857cb23f0ccfcc2e15a6c17ef",
        mirror="wholesale_customers.csv",
        sample="customer_segments.data:sample",
        license="CC BY 4.0 (Cardoso, UCI 2014)",
        minimum_rows=200,
    ),
    schema=Schema(
        features=(
            spend("fresh", "fruit, vegetables, meat, fish"),
            spend("milk", "milk, cheese and the like"),
            spend("grocery", "what keeps"),
            spend("frozen", ""),
            spend("detergents", "detergents and paper"),
            spend("delicatessen", ""),
        )
    ),
    transform="customer_segments.data:transform",
    train="customer_segments.model:train",
    evaluate="customer_segments.model:evaluate",
    candidates=(
        Candidate(name="kmeans_of_total", params={"compare": "total"}),
        Candidate(name="kmeans", params={"compare": "columns"}),
        Candidate(name="gaussian_mixture", params={"compare": "widths"}),
        Candidate(name="kmeans_of_components", params={"compare": "components"}),
    ),
    metrics=(
        Metric(name="silhouette", threshold=0.24),
        Metric(name="smallest_share", direction="higher", threshold=0.05),
    ),
    gate=Gate(minimum_gain=0.01, latency_ms=25, size_mb=1),
    drift=Drift(scenario="customer_segments.drift:simulate"),
    holdout_share=0.3,
    example={"fresh": 12669, "milk": 9656, "grocery": 7561, "frozen": 214, "detergents": 2674, "delicatessen": 1338},
    tags=("tabular", "unsupervised"),
)
