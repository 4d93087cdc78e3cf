"""Transforms the passengers, and generates a sample for use without the real file."""

from __future__ import annotations

import csv
import io
from typing import Any

import narwhals as nw
import numpy as np

HEADER = [
    "PassengerId",
    "Survived",
    "Pclass",
    "Name",
    "Sex",
    "Age",
    "SibSp",
    "Parch",
    "Ticket",
    "Fare",
    "Cabin",
    "Embarked",
]
TITLES = {"Mlle": "Miss", "Ms": "Miss", "Mme": "Mrs", "Mr": "Mr", "Mrs": "Mrs", "Miss": "Miss", "Master": "Master"}


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Map Kaggle's columns to the schema's: the title comes from the name, the deck is the cabin's first letter."""
    title = nw.col("Name").str.replace_all(r"^[^,]*,\s*(the )?([A-Za-z]+)\..*$", "$2")
    return raw.select(
        nw.col("Pclass").alias("pclass"),
        title.replace_strict(TITLES, default="Rare", return_dtype=nw.String).alias("title"),
        nw.col("Sex").alias("sex"),
        nw.col("Age").alias("age"),
        nw.col("SibSp").alias("sibsp"),
        nw.col("Parch").alias("parch"),
        nw.col("Fare").alias("fare"),
        nw.col("Cabin").str.slice(0, 1).alias("deck"),
        nw.col("Embarked").alias("embarked"),
        nw.col("Survived").alias("survived"),
    )


def sample(seed: int) -> bytes:
    """891 generated passengers in the real file's layout, with missing ages and cabins and quoted commas in names.

    Survival follows the pattern of the real ship: women and children first, and the first class before the third.
    """
    random = np.random.default_rng(seed)
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(HEADER)
    for number in range(1, 892):
        pclass = int(random.choice([1, 2, 3], p=[0.24, 0.21, 0.55]))
        male = random.random() < 0.65
        age = float(np.clip(random.normal(44 - 6 * pclass, 13), 0.5, 80))
        child = age < 14
        title = ("Master" if child else "Mr") if male else ("Miss" if child or random.random() < 0.55 else "Mrs")
        title = "Dr" if not child and random.random() < 0.02 else title
        family = random.random() < 0.35
        sibsp = int(random.poisson(0.9)) if family else 0
        parch = int(random.poisson(0.8)) if family else 0
        fare = round(float(np.exp(random.normal([4.2, 2.9, 2.4][pclass - 1], 0.5))) * (1 + 0.4 * (sibsp + parch)), 4)
        logit = 0.3 + 2.6 * (not male) - 0.95 * (pclass - 1) + 1.6 * child - 0.25 * (sibsp + parch) - 0.6 * male
        survived = int(random.random() < 1 / (1 + np.exp(-logit)))
        cabin = (
            f"{random.choice(list('ABCDE'))}{random.integers(1, 130)}"
            if random.random() < 0.7 - 0.3 * (pclass - 1)
            else ""
        )
        name = f"{random.choice(['Braund', 'Allen', 'Moran', 'Sandström', 'Bonnell'])}, {title}. Given {number}"
        out.writerow(
            [
                number,
                survived,
                pclass,
                name,
                "male" if male else "female",
                "" if random.random() < 0.2 else round(age),
                sibsp,
                parch,
                f"A/{random.integers(1, 6)} {random.integers(1000, 99999)}",
                fare,
                cabin,
                str(random.choice(["S", "C", "Q"], p=[0.72, 0.19, 0.09])),
            ]
        )
    return text.getvalue().encode()
