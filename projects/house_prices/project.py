"""House prices: what does a house in Ames, Iowa, sell for? Regression on 59 of the file's 82 columns."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Schema, Slice, Source
from projects.house_prices.columns import FEATURES

project = Project(
    name="house_prices",
    title="House prices in Ames",
    phase=2,
    description="The price of a house from its size, age, quality and neighbourhood: five regressions compared on 2,930 sales.",
    source=Source(
        # A copy of the paper's data at a fixed commit: after the transform, its 2,930 rows equal the mirror's.
        url="https://raw.githubusercontent.com/rahul-lyukbot/ML_Algorithms_practice/"
        "d8af25f4f6000ca94a236657cae09e6763c46170/ames_housing.csv",
        sha256="fc51944daebbc238a61757153a74a2abebb67dfc853b77a8828da5c9b79ae391",
        mirror="ames_housing.csv",
        mirror_sha256=("1cf821e5ab53ce9ac177cb663872c2d2b8c5b385f85eed495ce62a213bd34f86",),
        sample="house_prices.data:sample",
        license="free for teaching (De Cock, Journal of Statistics Education 19(3), 2011)",
        minimum_rows=200,
    ),
    schema=Schema(
        features=FEATURES,
        target=Column(name="sale_price", kind="number", minimum=1, unit="US$"),
    ),
    transform="house_prices.data:transform",
    train="house_prices.model:train",
    candidates=(
        Candidate(name="linear_regression"),
        Candidate(name="average", params={"of": ("ridge", "gradient_boosting")}),
        Candidate(name="ridge", params={"alpha": 10.0}),
        Candidate(name="random_forest", params={"n_estimators": 60, "min_samples_leaf": 2, "max_features": 0.4}),
        Candidate(
            name="gradient_boosting",
            params={"n_estimators": 150, "max_depth": 4, "learning_rate": 0.08, "subsample": 0.7},
        ),
    ),
    metrics=(
        Metric(name="rmsle", threshold=0.22),
        Metric(name="r2", threshold=0.75),
        Metric(name="mae"),
        Metric(name="rmse"),
        Metric(name="mape"),
    ),
    gate=Gate(
        minimum_gain=0.0005,
        slices=(Slice(column="sale_condition", threshold=0.35, minimum_rows=30),),
        latency_ms=25,
        size_mb=20,
    ),
    drift=Drift(
        features=("overall_qual", "living_area", "year_built", "garage_area", "neighborhood"),
        scenario="house_prices.drift:simulate",
    ),
    schedule="30 3 * * *",
    holdout_share=0.25,
    example={
        "lot_area": 9600,
        "overall_qual": 6,
        "overall_cond": 5,
        "year_built": 1976,
        "year_remodelled": 1998,
        "living_area": 1450,
        "first_floor_area": 1450,
        "second_floor_area": 0,
        "basement_area": 1080,
        "full_baths": 2,
        "bedrooms": 3,
        "rooms": 7,
        "garage_cars": 2,
        "garage_area": 520,
        "neighborhood": "NAmes",
        "building": "1Fam",
        "central_air": "Y",
        "kitchen_quality": "TA",
        "year_sold": 2009,
        "month_sold": 6,
    },
    tags=("tabular", "beginner"),
)
