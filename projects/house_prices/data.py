"""Transforms the sales, and generates a sample for use without the real file."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from projects.house_prices.columns import NUMBERS, WORDS


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Rename the file's columns to the schema's, and strip blanks from categories such as "WD "."""
    return raw.select(
        *(nw.col(source).alias(name) for source, (name, _) in NUMBERS.items()),
        *(nw.col(source).cast(nw.String).str.strip_chars().alias(name) for source, (name, _) in WORDS.items()),
        nw.col("SalePrice").alias("sale_price"),
    )


def sample(seed: int) -> bytes:
    """1,460 generated sales in the real file's layout: missing frontages, garages and alleys, column names with blanks.

    The price is a product of factors for size, quality, age and neighbourhood, with 10 % noise.
    """
    random = np.random.default_rng(seed)
    n = 1460
    quality = np.clip(random.normal(6, 1.4, n).round(), 1, 10)
    built = np.clip(random.normal(1972, 28, n) + 4 * (quality - 6), 1875, 2010).round()
    living = np.exp(random.normal(7.27, 0.3, n) + 0.05 * (quality - 6)).round()
    first = (living * random.uniform(0.5, 1, n)).round()
    basement = np.where(random.random(n) < 0.03, 0, first * random.uniform(0.8, 1.0, n)).round()
    finished = (basement * random.uniform(0, 0.8, n)).round()
    garage = np.where(
        random.random(n) < 0.05, 0, np.clip(random.normal(480, 180, n) + 30 * (quality - 6), 160, 1400)
    ).round()
    hoods = np.array(["NAmes", "CollgCr", "OldTown", "Edwards", "Somerst", "NridgHt", "Gilbert", "Sawyer"])
    worth = np.array([1.0, 1.08, 0.86, 0.88, 1.12, 1.3, 1.04, 0.95])
    hood = random.integers(0, len(hoods), n)
    air = random.random(n) < 0.93
    grades = np.array(["Fa", "TA", "Gd", "Ex"])
    grade = np.clip(((quality - 3) / 2 + random.normal(0, 0.4, n)).round(), 0, 3).astype(int)
    price = (
        165
        * living**0.75
        * (basement + 400) ** 0.18
        * np.exp(0.095 * (quality - 6) + 0.0025 * (built - 1970) + 0.0002 * garage + 0.05 * (grade - 1))
        * worth[hood]
        * np.where(air, 1, 0.88)
        * np.exp(random.normal(0, 0.1, n))
    ).round(-2)

    def pick(words: list[str]) -> list[str]:
        return [str(word) for word in random.choice(words, n)]

    def mostly(word: str, other: str | None, share: float) -> list[str | None]:
        return [word if draw < share else other for draw in random.random(n)]

    columns: dict[str, object] = {
        "Order": np.arange(1, n + 1),
        "PID": random.integers(500_000_000, 999_999_999, n),
        "Lot Frontage": [None if draw < 0.17 else round(50 + 40 * draw) for draw in random.random(n)],
        "Lot Area": np.exp(random.normal(9.1, 0.4, n)).round(),
        "Overall Qual": quality,
        "Overall Cond": np.clip(random.normal(5.6, 1.1, n).round(), 1, 9),
        "Year Built": built,
        "Year Remod/Add": np.maximum(built, random.integers(1950, 2010, n)),
        "Mas Vnr Area": np.where(random.random(n) < 0.6, 0, random.integers(20, 600, n)),
        "BsmtFin SF 1": finished,
        "Bsmt Unf SF": basement - finished,
        "Total Bsmt SF": basement,
        "1st Flr SF": first,
        "2nd Flr SF": living - first,
        "Gr Liv Area": living,
        "Bsmt Full Bath": random.integers(0, 2, n),
        "Full Bath": 1 + (living > 1400),
        "Half Bath": random.integers(0, 2, n),
        "Bedroom AbvGr": np.clip((living / 500).round(), 1, 6),
        "Kitchen AbvGr": np.ones(n),
        "TotRms AbvGrd": np.clip((living / 240).round(), 3, 14),
        "Fireplaces": random.integers(0, 2, n),
        "Garage Yr Blt": [None if area == 0 else year for area, year in zip(garage, built, strict=True)],
        "Garage Cars": (garage / 260).round(),
        "Garage Area": garage,
        "Wood Deck SF": np.where(random.random(n) < 0.5, 0, random.integers(50, 400, n)),
        "Open Porch SF": np.where(random.random(n) < 0.45, 0, random.integers(10, 200, n)),
        "3Ssn Porch": np.zeros(n),
        "Screen Porch": np.zeros(n),
        "Mo Sold": random.integers(1, 13, n),
        "Yr Sold": random.integers(2006, 2011, n),
        "MS SubClass": pick(["20", "50", "60", "120"]),
        "MS Zoning": mostly("RL", "RM", 0.8),
        "Alley": mostly("Grvl", None, 0.06),
        "Lot Shape": mostly("Reg", "IR1", 0.64),
        "Land Contour": mostly("Lvl", "HLS", 0.9),
        "Lot Config": mostly("Inside", "Corner", 0.75),
        "Neighborhood": hoods[hood],
        "Condition 1": mostly("Norm", "Feedr", 0.9),
        "Bldg Type": mostly("1Fam", "TwnhsE", 0.85),
        "House Style": mostly("1Story", "2Story", 0.55),
        "Roof Style": mostly("Gable", "Hip", 0.8),
        "Exterior 1st": pick(["VinylSd", "MetalSd", "HdBoard", "Wd Sdng"]),
        "Mas Vnr Type": mostly("None", "BrkFace", 0.65),
        "Exter Qual": grades[grade],
        "Foundation": mostly("PConc", "CBlock", 0.5),
        "Bsmt Qual": [None if area == 0 else str(g) for area, g in zip(basement, grades[grade], strict=True)],
        "Bsmt Exposure": mostly("No", "Av", 0.7),
        "BsmtFin Type 1": mostly("GLQ", "Unf", 0.5),
        "Heating QC": mostly("Ex", "TA", 0.5),
        "Central Air": np.where(air, "Y", "N"),
        "Kitchen Qual": grades[grade],
        "Functional": mostly("Typ", "Min1", 0.93),
        "Fireplace Qu": mostly("Gd", None, 0.5),
        "Garage Type": [None if area == 0 else "Attchd" for area in garage],
        "Garage Finish": [None if area == 0 else "RFn" for area in garage],
        "Pool QC": mostly("Gd", None, 0.005),
        "Fence": mostly("MnPrv", None, 0.2),
        "Misc Feature": mostly("Shed", None, 0.04),
        "Sale Type": mostly("WD ", "New", 0.88),
        "Sale Condition": mostly("Normal", "Partial", 0.85),
        "SalePrice": price,
    }
    return pl.DataFrame(columns).write_csv(quote_style="necessary").encode()
