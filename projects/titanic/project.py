"""Titanic: who survives? Binary classification on nine columns, with missing values and quoted commas."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Schema, Slice, Source

project = Project(
    name="titanic",
    title="Titanic survival",
    phase=2,
    description="Who survived the Titanic: five classifiers compared on 891 passengers.",
    source=Source(
        url="https://raw.githubusercontent.com/datasciencedojo/datasets/f0ccab6a7ceafdff780052166fb6fab3311398eb/titanic.csv",
        sha256="4a437fde05fe5264e1701a7387ac6fb75393772ba38bb2c9c566405af5af4bd7",
        mirror="titanic.csv",
        sample="titanic.data:sample",
        license="public domain",
        minimum_rows=200,
    ),
    schema=Schema(
        features=(
            Column(name="pclass", kind="category", allowed=("1", "2", "3"), description="class of the ticket"),
            Column(name="title", kind="category", description="Mr, Mrs, Miss, Master or Rare, from the name"),
            Column(name="sex", kind="category", allowed=("female", "male")),
            Column(name="age", kind="number", nullable=True, minimum=0, maximum=120, unit="years"),
            Column(name="sibsp", kind="integer", minimum=0, maximum=20, description="siblings and spouses aboard"),
            Column(name="parch", kind="integer", minimum=0, maximum=20, description="parents and children aboard"),
            Column(name="fare", kind="number", minimum=0, maximum=10_000, unit="pounds of 1912"),
            Column(name="deck", kind="category", nullable=True, description="first letter of the cabin"),
            Column(name="embarked", kind="category", nullable=True, description="C, Q or S: the port"),
        ),
        target=Column(name="survived", kind="category", allowed=("0", "1")),
    ),
    transform="titanic.data:transform",
    train="titanic.model:train",
    group="Ticket",  # people who travelled together often shared their fate
    candidates=(
        Candidate(name="logistic_regression", params={"C": 1.0}),
        Candidate(name="average", params={"of": ("logistic_regression", "random_forest", "gradient_boosting")}),
        Candidate(name="decision_tree", params={"max_depth": 4}),
        Candidate(name="random_forest", params={"n_estimators": 100, "min_samples_leaf": 3}),
        Candidate(name="gradient_boosting", params={"n_estimators": 80, "max_depth": 3, "learning_rate": 0.08}),
    ),
    metrics=(
        Metric(name="roc_auc", threshold=0.74),
        Metric(name="accuracy", threshold=0.65),
        Metric(name="f1"),
        Metric(name="log_loss"),
        Metric(name="brier"),
    ),
    gate=Gate(
        minimum_gain=0.002,
        slices=(Slice(column="sex", threshold=0.55, minimum_rows=40),),
        calibration=0.15,
        latency_ms=20,
        size_mb=10,
    ),
    drift=Drift(features=("age", "fare", "pclass", "sex"), scenario="titanic.drift:simulate"),
    schedule="0 3 * * *",
    example={
        "pclass": "3",
        "title": "Mr",
        "sex": "male",
        "age": 22.0,
        "sibsp": 1,
        "parch": 0,
        "fare": 7.25,
        "deck": None,
        "embarked": "S",
    },
    tags=("tabular", "beginner"),
)
