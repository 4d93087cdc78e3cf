"""The contract: a machine-learning project as data.

A `Project` names its code by string, so that every environment can read every project in milliseconds: Airflow without
scikit-learn, the service without a training library. Each adapter derives what it needs by a function of the project.
A name of code, `"titanic.model:train"`, is relative to the package `projects`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from phaseflow import checks
from phaseflow.errors import ContractError

TASKS: Final = frozenset(
    {
        "classification",
        "regression",
        "clustering",
        "image",
        "detection",
        "segmentation",
        "text",
        "generation",
        "ranking",
        "control",
    }
)
"""What a model answers with; adapters choose metrics, plots and response shapes by it."""

UNSUPERVISED: Final = frozenset({"clustering"})
"""Tasks without a truth: the rows that come are themselves what a retraining learns from."""

KINDS: Final = frozenset(
    {
        "number",  # float; missing is NaN
        "integer",
        "boolean",
        "category",  # a short string, from `allowed` where that is given
        "text",  # free text
        "date",  # ISO 8601
        "id",  # a key of an entity: a user, an item
        "vector",  # floats of `shape`
        "image",  # pixels, 0 to 255, of `shape` (height, width, channels: 1 for grey, 3 for red, green, blue)
        "boxes",  # list of [x, y, width, height, label]
        "mask",  # integers of `shape` (height, width)
        "ranking",  # list of ids, best first
        "action",  # floats of `shape`
    }
)
"""What a column holds."""

DERIVED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "image": ("brightness", "contrast", "sharpness"),
        "text": ("characters", "words", "word_length", "unknown"),
        "id": ("familiar",),
        "boxes": ("count", "size"),
        "ranking": ("first",),
    }
)
"""What is watched of a value that is no scalar: figures of it, which `phaseflow.derived` computes. Of an action it is each number."""

NAMED: Final = frozenset({"id", "ranking"})
"""Kinds whose figures are names; those of all others are numbers."""

OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "boxes": ("boxes", "scores", "labels"),
        "ranking": ("ranking", "scores"),
        "action": ("action",),
        "text": ("text",),
    }
)
"""Kinds of a target that a model answers with something else than a class or a number, and the graph's outputs then."""

RESERVED: Final = frozenset(
    {
        *("id", "time", "version", "prediction", "score", "latency_ms", "truth"),
        *("label", "probabilities", "value", "contributions"),
    }
)
"""Names of the prediction and feedback logs' own columns, and of a model's outputs."""

HASHED: Final = frozenset({"id", "category"})
"""Kinds of a personal column that is replaced by a keyed hash; one of another kind is left out of what is kept."""

GROUPS: Final = frozenset({"id", "category", "text", "date", "integer"})
"""Kinds of a feature whose value can name a group of rows."""

DIRECTIONS: Final = frozenset({"higher", "lower"})

METRICS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "f1": "higher",
        "log_loss": "lower",
        "precision": "higher",
        "recall": "higher",
        "roc_auc": "higher",
        "brier": "lower",
        "mae": "lower",
        "mape": "lower",
        "rmse": "lower",
        "rmsle": "lower",
        "r2": "higher",
        "silhouette": "higher",
        "mean_average_precision": "higher",
        "intersection_over_union": "higher",
        "ndcg": "higher",
        "coverage": "higher",
        "perplexity": "lower",
        "return": "higher",
    }
)
"""Known metrics and the direction that is better; a project may declare others with a direction of its own."""

FAMILIES: Final = frozenset({"tabular", "torch", "language"})
"""Training environments: dependency groups of pyproject.toml, and images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: the single definition that ETL, training and the service's validation use."""

    name: str
    kind: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    unit: str = ""
    description: str = ""
    personal: bool = False
    """Whether it tells something of a person. An id or an open category is then a keyed hash everywhere behind the ETL and the service's
    door, the model included; of any other kind the model sees the value, and the log, the report and the example do not hold it."""

    def __post_init__(self) -> None:
        checks.name("Column.name", self.name)
        where = f"Column {self.name!r}: "
        checks.one_of(f"{where}kind", self.kind, KINDS)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ContractError(
                f"{where}minimum is {self.minimum!r}, above maximum {self.maximum!r}", fix="Exchange the two"
            )
        if (self.minimum is not None or self.maximum is not None) and self.kind not in {"number", "integer", "action"}:
            raise ContractError(
                f"{where}a range is given for kind {self.kind!r}; allowed: number, integer, action",
                fix="Remove the range",
            )
        if self.allowed and self.kind not in {"category", "boxes", "mask"}:
            raise ContractError(
                f"{where}allowed is given for kind {self.kind!r}; allowed: category, boxes, mask",
                fix='Remove it, or set kind="category"',
            )
        if not all(isinstance(value, str) for value in self.allowed):
            raise ContractError(f"{where}allowed is {self.allowed!r}; allowed: strings", fix="Write each as a string")
        checks.distinct(f"{where}allowed", self.allowed)
        if self.kind in {"image", "vector", "mask", "action"} and not self.shape:
            raise ContractError(f"{where}shape is empty for kind {self.kind!r}", fix="Give its shape, e.g. (28, 28, 1)")
        if self.kind == "image" and self.nullable:
            raise ContractError(f"{where}an image is nullable, and no model answers without it", fix="Remove nullable")
        if self.kind == "image" and (len(self.shape) != 3 or self.shape[2] not in {1, 3} or min(self.shape) < 1):
            raise ContractError(
                f"{where}shape is {self.shape!r}; allowed: (height, width, 1) for grey, (height, width, 3) for colours",
                fix="Give its shape, e.g. (28, 28, 1)",
            )
        if self.omitted and not self.nullable:
            raise ContractError(
                f"{where}it is personal, and of kind {self.kind!r}{' with allowed values' * bool(self.allowed)}: the log leaves it "
                "out, and it is not nullable",
                fix="Set nullable=True, so that a model can learn from rows without it, or remove personal",
            )

    @property
    def hashed(self) -> bool:
        """Whether a keyed hash takes the place of its values."""
        return self.personal and self.kind in HASHED and not self.allowed

    @property
    def omitted(self) -> bool:
        """Whether it is left out of what is kept."""
        return self.personal and not self.hashed

    @property
    def watchable(self) -> tuple[str, ...]:
        """Those of `figures` that metrics and reports may show: of a personal column no value, of an id whether it is familiar."""
        return self.figures if not self.personal or (self.hashed and self.kind == "id") else ()

    @property
    def size(self) -> int:
        """Numbers in a value of `shape`: an image's bytes."""
        return math.prod(self.shape)

    @property
    def closed(self) -> bool:
        """Whether its whole value is one of `allowed`; of boxes only the labels are."""
        return bool(self.allowed) and self.kind == "category"

    @property
    def figures(self) -> tuple[str, ...]:
        """What is watched of it: its own name, or for what is no scalar `<name>.<figure>` of each of `DERIVED`."""
        if self.kind == "action":
            return tuple(f"{self.name}.{place}" for place in range(self.size))
        return tuple(f"{self.name}.{figure}" for figure in DERIVED.get(self.kind, ())) or (self.name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The columns of a row: `features` are what a request holds, `target` is the truth that training learns."""

    features: tuple[Column, ...]
    target: Column | None = None

    def __post_init__(self) -> None:
        checks.not_empty("Schema.features", self.features)
        checks.distinct("Schema", [column.name for column in self.columns])
        for column in self.columns:
            if column.name in RESERVED:
                raise ContractError(
                    f"Column.name is {column.name!r}, a name of the prediction log or of a model's output",
                    fix=f'Rename it in `transform`, for example "{column.name}_"',
                )
        if self.target is not None and self.target.personal:
            raise ContractError(
                f"Schema.target {self.target.name!r} is personal, and a model learns to answer with it",
                fix="Remove personal; `Keep` says how long answers stay, and `phaseflow forget` erases one",
            )

    @property
    def columns(self) -> tuple[Column, ...]:
        """Features, then the target where there is one."""
        return self.features if self.target is None else (*self.features, self.target)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(column.name for column in self.features)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a source."""

    url: str
    """Public address; empty where only the mirror folder or the project's own folder holds the data."""
    mirror: str
    """File name looked for in `PHASEFLOW_DATA_MIRROR`."""
    sha256: str = ""
    """Checksum of the file at `url`; an empty one is refused for a download, and leaves the mirror's file unchecked."""
    mirror_sha256: tuple[str, ...] = ()
    """Checksums of other editions of the same data that the mirror may hold: other line ends, compressed again."""

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("https://", "http://", "file://")):
            raise ContractError(
                f"Source.url is {self.url!r}; allowed: https://, http://, file:// or empty",
                fix="Give the file's full address",
            )
        named = [("sha256", self.sha256), *(("mirror_sha256", digest) for digest in self.mirror_sha256)]
        for name, digest in named:
            if digest and (len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest)):
                raise ContractError(
                    f"Source.{name} is {digest!r}; allowed: 64 hexadecimal digits", fix="Take it from `sha256sum FILE`"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the data comes from: the mirror folder, then the public address, then the project's own seeded sample."""

    url: str
    """Of the (first) file, as in `File`."""
    mirror: str
    sample: str
    """`sample(seed: int) -> bytes` in the source's own format; of several files a tuple of them."""
    read: str = ""
    """`read(*contents: bytes) -> polars.DataFrame`, a content a file; by default a strict CSV reader."""
    sha256: str = ""
    mirror_sha256: tuple[str, ...] = ()
    more: tuple[File, ...] = ()
    """Further files, where the source has several: images and their labels."""
    license: str = ""
    minimum_rows: int = 20

    def __post_init__(self) -> None:
        checks.distinct("Source.mirror", [file.mirror for file in self.files if file.mirror])
        checks.reference("Source.sample", self.sample)
        if self.read:
            checks.reference("Source.read", self.read)
        elif self.more:
            raise ContractError(
                "Source.read is empty, and the source has several files",
                fix="Set Source.read to a function of all their contents",
            )
        checks.within("Source.minimum_rows", self.minimum_rows, 1, 1e9, "rows")

    @property
    def files(self) -> tuple[File, ...]:
        """All of them, in the order in which `read` takes their contents."""
        first = File(url=self.url, mirror=self.mirror, sha256=self.sha256, mirror_sha256=self.mirror_sha256)
        return (first, *self.more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One algorithm that the pipeline trains and compares."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.name("Candidate.name", self.name)
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))


ORIGINS: Final[Mapping[str, str]] = MappingProxyType(
    {"sample": "sample", "package": "package", "public": "public", "cache": "public", "mirror": "public"}
)
"""The origin whose bounds apply, by the source of a snapshot. The cache and the mirror hold the public files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of quality. A model beyond `bound` (below for higher, above for lower) is not promoted."""

    name: str
    direction: str = ""
    bound: float | Mapping[str, float] | None = None
    """One for all data, or one by the data's origin: `{"sample": 0.95, "public": 0.9}`. An origin that is not named has no bound."""

    def __post_init__(self) -> None:
        checks.name("Metric.name", self.name)
        if isinstance(self.bound, Mapping):
            checks.not_empty(f"Metric {self.name!r}: bound", tuple(self.bound))
            for origin, value in self.bound.items():
                checks.one_of(f"Metric {self.name!r}: an origin of bound", origin, set(ORIGINS.values()))
                checks.within(f"Metric {self.name!r}: bound of {origin}", value, -1e12, 1e12)
            object.__setattr__(self, "bound", MappingProxyType(dict(self.bound)))
        elif self.bound is not None:
            checks.within(f"Metric {self.name!r}: bound", self.bound, -1e12, 1e12)
        known = METRICS.get(self.name)
        if not self.direction:
            if known is None:
                checks.one_of("Metric.name (without a direction)", self.name, METRICS)
            object.__setattr__(self, "direction", known)
        checks.one_of(f"Metric {self.name!r}: direction", self.direction, DIRECTIONS)
        if known is not None and self.direction != known:
            raise ContractError(
                f"Metric {self.name!r}: direction is {self.direction!r}, but {known} is better", fix="Remove direction"
            )

    def better(self, left: float, right: float) -> bool:
        """Whether `left` is strictly better than `right`."""
        return left > right if self.direction == "higher" else left < right

    def within(self, bound: float, value: float) -> bool:
        """Whether `value` is at least as good as `bound`."""
        return not self.better(bound, value)

    def limit(self, source: str) -> float | None:
        """The bound for data of this source: `sample`, `package`, `public`, `cache` or `mirror`."""
        return self.bound.get(ORIGINS.get(source, source)) if isinstance(self.bound, Mapping) else self.bound

    @property
    def bounds(self) -> str:
        """The bound in words, such as ">= 0.9", or a list of the bounds of each origin. It is empty if the metric has no bound."""
        sign = ">=" if self.direction == "higher" else "<="
        if isinstance(self.bound, Mapping):
            return ", ".join(f"{sign} {value:g} ({origin})" for origin, value in self.bound.items())
        return "" if self.bound is None else f"{sign} {self.bound:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The first metric on each value of `column`; a value with fewer holdout rows than `minimum_rows` is not judged."""

    column: str
    bound: float
    minimum_rows: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a candidate must reach to become champion, beside each metric's `bound`: docs/adr/0034-the-gate-asks-for-evidence.md."""

    minimum_gain: float = 0.0
    """The paired interval of the first metric's gain over the champion, same holdout, lies above it."""
    margin: float = 0.0
    """A challenger may also win that is certainly not worse by more than this, and cheaper by `cheaper`; 0 switches that rule off."""
    cheaper: float = 0.5
    """The share of the champion's latency or size that such a challenger saves."""
    slices: tuple[Slice, ...] = ()
    calibration: float | None = None
    """Largest expected calibration error (ECE) of a classifier on the holdout; None asks for nothing."""
    trusted_loss: float = 0.05
    """A challenger that is certainly worse than the champion by more than this on the holdout's trusted rows is refused: who learns a changed
    world forgets a little of the old one, and who learns false labels much."""
    latency_ms: float = 50.0
    """99th percentile of one row through the served artifact."""
    size_mb: float = 100.0
    folds: int = 5
    """The number of folds of the cross-validation that compares candidates. With 1 there is a single validation part."""

    def __post_init__(self) -> None:
        checks.within("Gate.minimum_gain", self.minimum_gain, 0, 1e12)
        checks.within("Gate.margin", self.margin, 0, 1e12)
        checks.within("Gate.cheaper", self.cheaper, 0.01, 0.99)
        if self.calibration is not None:
            checks.within("Gate.calibration", self.calibration, 0, 1)
        checks.within("Gate.trusted_loss", self.trusted_loss, 0, 1e12)
        checks.within("Gate.latency_ms", self.latency_ms, 0.001, 600_000, "ms")
        checks.within("Gate.size_mb", self.size_mb, 0.001, 100_000, "MB")
        checks.within("Gate.folds", self.folds, 1, 20, "folds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """When live data counts as drifted, and what retraining is allowed."""

    features: tuple[str, ...] = ()
    """Features that are watched, or single figures of what is no scalar (`image.brightness`); empty means all."""
    psi: float = 0.25
    """Population stability index that fires the alert: 0.1 is some change, 0.25 a major one (Siddiqi 2006)."""
    window_seconds: int = 3600
    minimum_rows: int = 200
    """Fewer rows in the window give no verdict."""
    cooldown_seconds: int = 3600
    """Least time between two retrainings caused by alerts."""
    daily_cap: int = 4
    scenario: str = ""
    """`drift(rows: polars.DataFrame, rng: numpy.random.Generator) -> polars.DataFrame`: a changed world."""

    def __post_init__(self) -> None:
        checks.within("Drift.psi", self.psi, 0.01, 10)
        checks.within("Drift.window_seconds", self.window_seconds, 10, 30 * 86_400, "s")
        checks.within("Drift.minimum_rows", self.minimum_rows, 1, 1e9, "rows")
        checks.within("Drift.cooldown_seconds", self.cooldown_seconds, 0, 30 * 86_400, "s")
        checks.within("Drift.daily_cap", self.daily_cap, 1, 1000, "retrainings")
        if self.scenario:
            checks.reference("Drift.scenario", self.scenario)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long `phaseflow clean` leaves what a project makes: days by age, else how many of the newest.

    What an alias of MLflow, a report or the next snapshot needs stays, however old it is.
    """

    log_days: int = 90
    """The prediction log and the feedback log, by the hour of a row."""
    staging_days: int = 7
    """What the ETL's steps hand to each other: it holds the source's rows as they came."""
    quarantine_days: int = 30
    report_days: int = 30
    run_days: int = 365
    """Verdicts of the gate."""
    event_days: int = 365
    pipeline_days: int = 30
    """Runs of the pipeline engine and the artifacts of their steps."""
    airflow_days: int = 90
    """DAG runs, task instances and their XComs in Airflow's database; the longest of all projects counts."""
    snapshots: int = 20
    versions: int = 20
    """Registered versions of the model, each with its MLflow run and artifacts."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            unit = "days" if name.endswith("_days") else name
            checks.within(f"Keep.{name}", getattr(self, name), 1, 36_500, unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """Service-level objectives over 30 days."""

    availability: float = 0.999
    latency_ms: float = 100.0
    """`latency_share` of requests are answered within it."""
    latency_share: float = 0.99

    def __post_init__(self) -> None:
        checks.within("Objectives.availability", self.availability, 0.5, 0.99999)
        checks.within("Objectives.latency_ms", self.latency_ms, 0.1, 600_000, "ms")
        checks.within("Objectives.latency_share", self.latency_share, 0.5, 0.99999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a training step may use."""

    cpu: float = 1.0
    memory_mb: int = 1024
    gpu: int = 0

    def __post_init__(self) -> None:
        checks.within("Resources.cpu", self.cpu, 0.1, 512, "cores")
        checks.within("Resources.memory_mb", self.memory_mb, 64, 4_000_000, "MB")
        checks.within("Resources.gpu", self.gpu, 0, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A machine-learning project, whole.

    The code that it names:

    - `transform(raw: narwhals frame) -> narwhals frame`: the source's columns to the schema's, row by row.
    - `train(rows: polars.DataFrame, project: Project, candidate: Candidate) -> phaseflow.toolkit.model.Trained`: the
      ONNX model and the files it needs.
    - `evaluate`, optional, where the task's own figures don't fit: `evaluate(said: Mapping[str, numpy.ndarray],
      rows: polars.DataFrame, project: Project) -> Mapping[str, float | None]`, every metric of what the model said (its
      outputs by name, a row a row of `rows`); None where these rows don't define it.
    - `play`, optional, for what is judged by acting: `play(ask: Callable[[polars.DataFrame], Mapping[str, numpy.ndarray]],
      rows: polars.DataFrame, project: Project) -> tuple[Mapping[str, numpy.ndarray], polars.DataFrame]` lets the model, `ask`,
      act in a world like that of `rows`, and gives what came of it by name, a row a game, and the games. `evaluate` then gets these.
    """

    name: str
    title: str
    phase: int
    task: str
    source: Source
    schema: Schema
    transform: str
    train: str
    candidates: tuple[Candidate, ...]
    metrics: tuple[Metric, ...]
    """The first one decides."""
    example: Mapping[str, Any]
    """One row as a client would send it; the DAG's last task sends it to the service."""
    evaluate: str = ""
    play: str = ""
    gate: Gate = Gate()
    drift: Drift = Drift()
    objectives: Objectives = Objectives()
    keep: Keep = Keep()
    schedule: str | None = None
    """Cron of the retraining DAG; None means only by hand or by alert."""
    monitor_seconds: int = 300
    """How often the monitor's DAG judges the latest window."""
    quarantine_share: float = 0.05
    """Share of bad rows above which validation fails the run."""
    holdout_share: float = 0.25
    history: str = ""
    """A feature of kind id whose rows are a history, in the order of the source and then of what came back: of each of its values
    the newest `holdout_share` is held out. Empty: each row's hash decides."""
    group: str = ""
    """A column whose equal values mark rows that resemble each other (a ticket, a road, a writer): such rows are never on both sides
    of the split. A feature, or a column that `transform` gives beside the schema's, or one of the source, of which the split alone
    takes notice. Empty, or where a row has no value: the row's own hash decides."""
    feedback_share: float = 0.8
    """Most of a snapshot's training rows, and of its holdout, that come from the service; 1 is all. Of more some are picked, newer ones more often."""
    feedback_half_life_hours: float = 1.0
    """When feedback is above its share, a row's chance to be picked halves with every so many hours of its age. A short half-life adapts
    to a drift with one retraining; a long one mixes rows of several days."""
    feedback_share_per_client: float = 0.5
    """Likewise of each client, which is its token's name; all who show no token are one. Without a target it has no meaning."""
    trusted_clients: tuple[str, ...] = ()
    """Clients, by the names of their tokens, whose feedback counts as much as the source's rows: the gate judges a model on these
    rows of the holdout apart from all others."""
    family: str = "tabular"
    resources: Resources = Resources()
    seed: int = 7
    owner: str = "phaseflow"
    tags: tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        checks.project_name("Project.name", self.name)
        checks.not_empty("Project.title", self.title)
        checks.within("Project.phase", self.phase, 1, 6)
        checks.one_of("Project.task", self.task, TASKS)
        checks.one_of("Project.family", self.family, FAMILIES)
        if (self.schema.target is None) != (self.task in UNSUPERVISED):
            raise ContractError(
                f"Schema.target is {getattr(self.schema.target, 'name', None)!r} for the task {self.task!r}, which "
                f"{'learns no truth' if self.task in UNSUPERVISED else 'learns one'}",
                fix="Remove the target"
                if self.task in UNSUPERVISED
                else "Give the schema a target, or correct the task",
            )
        checks.reference("Project.transform", self.transform)
        checks.reference("Project.train", self.train)
        if self.evaluate:
            checks.reference("Project.evaluate", self.evaluate)
        if self.play:
            checks.reference("Project.play", self.play)
            if not self.evaluate:
                raise ContractError(
                    "Project.play is given, and no evaluate",
                    fix="Set Project.evaluate to a function of what came of the games",
                )
            if self.gate.slices:
                raise ContractError("Gate.slices is given beside Project.play", fix="Give what is sliced as a metric")
        checks.not_empty("Project.candidates", self.candidates)
        checks.distinct("Project.candidates", [candidate.name for candidate in self.candidates])
        checks.not_empty("Project.metrics", self.metrics)
        checks.distinct("Project.metrics", [metric.name for metric in self.metrics])
        checks.within("Project.quarantine_share", self.quarantine_share, 0, 1)
        checks.within("Project.holdout_share", self.holdout_share, 0.05, 0.5)
        checks.within("Project.feedback_share", self.feedback_share, 0, 1)
        checks.within("Project.feedback_half_life_hours", self.feedback_half_life_hours, 0.01, 100_000, "hours")
        checks.within("Project.feedback_share_per_client", self.feedback_share_per_client, 0, 1)
        checks.within("Project.monitor_seconds", self.monitor_seconds, 10, 86_400, "s")
        ids = [column.name for column in self.schema.features if column.kind == "id"]
        if self.history and self.history not in ids:
            raise ContractError(
                f"Project.history is {self.history!r}; allowed: a feature of kind id ({', '.join(ids) or 'there is none'})",
                fix='Name one, give that column kind="id", or remove history',
            )
        self._check_group()
        self._check_clients()
        figures = tuple(figure for column in self.schema.features for figure in column.figures)
        for name in self.drift.features:
            checks.one_of("Drift.features", name, dict.fromkeys((*self.schema.feature_names, *figures)))
        for part in self.gate.slices:
            checks.one_of("Slice.column", part.column, self.schema.feature_names)
        self._check_personal()
        self._check_keep()
        taken = OUTPUTS.get(self.schema.target.kind, ()) if self.schema.target else ()
        for name in self.schema.feature_names:
            if name in taken:
                raise ContractError(
                    f"Column.name is {name!r}, an output of a model that answers with {taken[0]}",
                    fix=f'Rename it in `transform`, for example "{name}_"',
                )
        for name in self.example:
            checks.one_of("Project.example", name, self.schema.feature_names)
        missing = [c.name for c in self.schema.features if c.name not in self.example and not c.nullable]
        if missing:
            raise ContractError(
                f"Project.example lacks {', '.join(missing)}", fix="Add a value for each column that is not nullable"
            )
        object.__setattr__(self, "example", MappingProxyType(dict(self.example)))

    def _check_personal(self) -> None:
        """Raise ContractError where metrics would show what is personal."""
        for name in self.drift.features:
            column = self.schema[name.partition(".")[0]]
            if not column.watchable:
                raise ContractError(
                    f"Drift.features names {name!r}, and metrics do not show the personal column {column.name!r}",
                    fix=f"Leave it out of Drift.features, or remove personal from {column.name!r}",
                )
        for part in self.gate.slices:
            if self.schema[part.column].personal:
                raise ContractError(
                    f"Slice.column is {part.column!r}, a personal column, and metrics show each value of a slice",
                    fix=f"Slice by another column, or remove personal from {part.column!r}",
                )

    def _check_keep(self) -> None:
        """Raise ContractError where less is kept than the drift's window and the retraining's cooldown read."""
        for name, days, needs, seconds in (
            ("log_days", self.keep.log_days, "Drift.window_seconds", self.drift.window_seconds),
            ("event_days", self.keep.event_days, "Drift.cooldown_seconds", self.drift.cooldown_seconds),
        ):
            if days * 86_400 < seconds:
                raise ContractError(
                    f"Keep.{name} is {days}, less than the {seconds} s of {needs}",
                    fix=f"Set Keep.{name} to {math.ceil(seconds / 86_400)} or more",
                )

    def _check_clients(self) -> None:
        checks.distinct("Project.trusted_clients", self.trusted_clients)
        for client in self.trusted_clients:
            if not client or client != client.strip() or len(client.split()) != 1:
                raise ContractError(
                    f"Project.trusted_clients holds {client!r}; allowed: names of tokens, without blanks",
                    fix="Give the client a line `name token` in the secret feedback_tokens, and name it here",
                )

    def _check_group(self) -> None:
        if not self.group:
            return
        if self.history:
            raise ContractError(
                f"Project.group is {self.group!r} beside Project.history, which splits by time",
                fix="Remove one of them",
            )
        target = self.schema.target
        if target is not None and self.group == target.name:
            raise ContractError(
                f"Project.group is {self.group!r}, the target, which no row has before its truth is known",
                fix="Name a feature, or a column of the source",
            )
        if self.group in self.schema.feature_names:
            checks.one_of(f"Project.group: kind of {self.group!r}", self.schema[self.group].kind, GROUPS)
            if self.schema[self.group].omitted:
                raise ContractError(
                    f"Project.group is {self.group!r}, a personal column that the log leaves out",
                    fix='Give that column kind="id", whose values are hashed, or name another one',
                )

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return self.metrics[0]

    @property
    def watched(self) -> tuple[str, ...]:
        """What drift is watched by: features that are scalars, and figures of the others (`image.brightness`)."""
        chosen = self.drift.features or self.schema.feature_names
        return tuple(figure for name in chosen for figure in ((name,) if "." in name else self.schema[name].watchable))

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for JSON."""
        return {key: _plain(getattr(self, key)) for key in self.__slots__}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if hasattr(value, "__slots__"):
        return {key: _plain(getattr(value, key)) for key in value.__slots__}
    return value
