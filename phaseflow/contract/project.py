"""A complete machine-learning project."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from phaseflow import checks, kinds
from phaseflow.columns import Schema
from phaseflow.contract.gate import Gate, Metric
from phaseflow.contract.monitoring import Drift, Objectives
from phaseflow.contract.retention import Keep
from phaseflow.contract.source import Source
from phaseflow.contract.training import ENVIRONMENTS, Candidate, Resources
from phaseflow.errors import ContractError, suggestion

PHASES: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "foundations",
        2: "classic machine learning",
        3: "deep learning",
        4: "vision, language and generative AI",
        5: "MLOps",
        6: "capstones",
    }
)
"""Chapters of the learning roadmap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A complete machine-learning project.

    The project refers to these functions:

    - `transform(raw: narwhals frame) -> narwhals frame` converts the columns of the source to the columns of the
      schema, row by row.
    - `train(rows: polars.DataFrame, project: Project, candidate: Candidate) -> phaseflow.toolkit.model.Trained` returns
      the ONNX model and the files that it needs.
    - `evaluate(outputs: Mapping[str, numpy.ndarray], rows: polars.DataFrame, project: Project) -> Mapping[str, float |
      None]` is optional and replaces the built-in metrics. `outputs` are the outputs of the model by name, with one
      entry per row of `rows`. It returns every metric, or None for a metric that these rows do not define.
    - `rollout(predict: Callable[[polars.DataFrame], Mapping[str, numpy.ndarray]], rows: polars.DataFrame, project:
      Project) -> tuple[Mapping[str, numpy.ndarray], polars.DataFrame]` is optional, for models that are evaluated in a
      simulation. It simulates episodes like those in `rows`, in which the model acts through `predict`. It returns the
      results by name, with one entry per episode, and one row per episode. `evaluate` then receives these in place of
      `outputs` and `rows`.
    """

    name: str
    """Name of the DAG, the model and the path of the service. It equals the name of the project folder."""
    title: str
    """Title in documents, dashboards and the portal."""
    phase: int
    """Chapter of the learning roadmap that the project illustrates. Tables are sorted by it.

    1 foundations, 2 classic machine learning, 3 deep learning, 4 vision, language and generative AI, 5 MLOps, 6
    capstones.
    """
    source: Source
    """Source of the data."""
    schema: Schema
    """Columns of a row."""
    transform: str
    """Reference of `transform`."""
    train: str
    """Reference of `train`."""
    candidates: tuple[Candidate, ...]
    """Algorithms to train and compare."""
    metrics: tuple[Metric, ...]
    """The first metric decides which model is better."""
    example: Mapping[str, Any]
    """A row as a client would send it. The last task of the DAG sends it to the service."""
    evaluate: str = ""
    """Reference of `evaluate`. If empty, phaseflow computes the metrics."""
    rollout: str = ""
    """Reference of `rollout`. If empty, the predictions of the holdout rows are evaluated."""
    gate: Gate = Gate()
    """Requirements for promotion."""
    drift: Drift = Drift()
    """Drift monitoring and automatic retraining."""
    objectives: Objectives = Objectives()
    """Service-level objectives."""
    keep: Keep = Keep()
    """Retention of the data."""
    schedule: str | None = None
    """Cron expression of the retraining DAG. With None, only users and alerts start it."""
    monitor_seconds: int = 300
    """Interval at which the monitoring DAG checks the latest window."""
    quarantine_share: float = 0.05
    """Share of invalid rows above which the validation fails the run."""
    holdout_share: float = 0.25
    """Share of the rows that is held out for evaluation."""
    temporal_group: str = ""
    """A feature of kind id. For each of its values, the newest `holdout_share` of the rows is held out.

    Rows are ordered as in the source, followed by the rows from the service. If empty, the hash of each row decides.
    """
    group: str = ""
    """A column whose equal values mark related rows (a ticket, a road, a writer). The split keeps them together.

    It is a feature, a column that `transform` returns in addition to the schema, or a column of the source; only the
    split uses the latter two. If it is empty, or a row has no value, the hash of the row decides.
    """
    feedback_share: float = 0.8
    """Maximum share of rows from the service in the training rows and in the holdout of a snapshot. 1 means no limit.

    Above it, these rows are sampled, newer rows with a higher probability.
    """
    feedback_half_life_hours: float = 1.0
    """Age in hours at which the sampling probability of a row halves, if rows from the service exceed `feedback_share`.

    With a short half-life, one retraining adapts to a drift. A long half-life mixes rows of several days.
    """
    feedback_share_per_client: float = 0.5
    """Maximum share of rows per client, like `feedback_share`. It has no effect without a target.

    A client is identified by the name of its token. All clients without a token count as one.
    """
    trusted_clients: tuple[str, ...] = ()
    """Clients, by the names of their tokens, whose feedback is as trustworthy as the rows of the source.

    The gate also evaluates a model on the trusted rows of the holdout alone.
    """
    environment: str = "tabular"
    """Training environment, one of `ENVIRONMENTS`."""
    resources: Resources = Resources()
    """Resources of a training step."""
    seed: int = 7
    """Random seed of the generated sample and the training."""
    owner: str = "phaseflow"
    """Owner of the DAGs in Airflow."""
    tags: tuple[str, ...] = ()
    """Further tags of the DAG in Airflow."""
    description: str = ""
    """Description in Airflow and in dashboards."""

    def __post_init__(self) -> None:
        checks.project_name("Project.name", self.name)
        checks.not_empty("Project.title", self.title)
        self._check_phase()
        checks.one_of("Project.environment", self.environment, ENVIRONMENTS)
        self._check_functions()
        checks.not_empty("Project.candidates", self.candidates)
        checks.distinct("Project.candidates", [candidate.name for candidate in self.candidates])
        self._check_metrics()
        checks.within("Project.quarantine_share", self.quarantine_share, 0, 1)
        checks.within("Project.holdout_share", self.holdout_share, 0.05, 0.5)
        checks.within("Project.feedback_share", self.feedback_share, 0, 1)
        checks.within("Project.feedback_half_life_hours", self.feedback_half_life_hours, 0.01, 100_000, "hours")
        checks.within("Project.feedback_share_per_client", self.feedback_share_per_client, 0, 1)
        checks.within("Project.monitor_seconds", self.monitor_seconds, 10, 86_400, "s")
        self._check_group()
        self._check_clients()
        self._check_columns()
        self._check_personal()
        self._check_keep()
        object.__setattr__(self, "example", MappingProxyType(dict(self.example)))

    def _check_phase(self) -> None:
        if isinstance(self.phase, bool) or self.phase not in PHASES:
            chapters = ", ".join(f"{number} ({title})" for number, title in PHASES.items())
            raise ContractError(
                f"Project.phase is {self.phase!r}; allowed: {chapters}",
                fix="Set Project.phase to the chapter of the roadmap that the project illustrates",
            )

    def _check_functions(self) -> None:
        checks.reference("Project.transform", self.transform)
        checks.reference("Project.train", self.train)
        if self.evaluate:
            checks.reference("Project.evaluate", self.evaluate)
        if not self.rollout:
            return
        checks.reference("Project.rollout", self.rollout)
        if not self.evaluate:
            raise ContractError(
                "Project.rollout is set, but Project.evaluate is empty",
                fix="Set Project.evaluate to a function that computes the metrics of the episodes",
            )
        if self.gate.slices:
            raise ContractError(
                "Gate.slices and Project.rollout are both set", fix="Report each slice as a metric instead"
            )

    def _check_metrics(self) -> None:
        """Raise ContractError for a metric that nothing computes."""
        checks.not_empty("Project.metrics", self.metrics)
        checks.distinct("Project.metrics", [metric.name for metric in self.metrics])
        if self.evaluate:
            return
        computed = kinds.of_target(self.schema.target).metrics if self.schema.target is not None else ()
        for metric in self.metrics:
            if metric.name not in computed:
                raise ContractError(
                    f"Project.metrics contains {metric.name!r}, which phaseflow does not compute for the task "
                    f"{self.task}; allowed: {', '.join(computed) or 'none'}",
                    fix=suggestion(metric.name, computed)
                    or ("Use one of them, or set" if computed else "Set")
                    + " Project.evaluate to a function that returns it",
                )

    def _check_columns(self) -> None:
        """Raise ContractError if the column that a setting names does not exist or does not suit it."""
        ids = [column.name for column in self.schema.features if column.kind == "id"]
        if self.temporal_group and self.temporal_group not in ids:
            raise ContractError(
                f"Project.temporal_group is {self.temporal_group!r}; allowed: a feature of kind id "
                f"({', '.join(ids) or 'there is none'})",
                fix='Name such a feature, give that column kind="id", or remove temporal_group',
            )
        descriptors = tuple(descriptor for column in self.schema.features for descriptor in column.descriptors)
        for name in self.drift.features:
            checks.one_of("Drift.features", name, dict.fromkeys((*self.schema.feature_names, *descriptors)))
        for part in self.gate.slices:
            checks.one_of("Slice.column", part.column, self.schema.feature_names)
        prediction = kinds.of_target(self.schema.target)
        for name in self.schema.feature_names:
            if prediction.structured and name in prediction.outputs:
                raise ContractError(
                    f"Column.name is {name!r}, an output of models that predict {prediction.outputs[0]}",
                    fix=f'Rename it in `transform`, for example "{name}_"',
                )
        for name in self.example:
            checks.one_of("Project.example", name, self.schema.feature_names)
        missing = [c.name for c in self.schema.features if c.name not in self.example and not c.nullable]
        if missing:
            raise ContractError(
                f"Project.example lacks {', '.join(missing)}", fix="Add a value for each column that is not nullable"
            )

    def _check_personal(self) -> None:
        """Raise ContractError if metrics would show personal data."""
        for name in self.drift.features:
            column = self.schema[name.partition(".")[0]]
            if not column.monitorable:
                raise ContractError(
                    f"Drift.features contains {name!r}, but metrics must not show the personal column {column.name!r}",
                    fix=f"Remove it from Drift.features, or remove personal from {column.name!r}",
                )
        for part in self.gate.slices:
            if self.schema[part.column].personal:
                raise ContractError(
                    f"Slice.column is {part.column!r}, a personal column, but metrics show the values of a slice",
                    fix=f"Slice by another column, or remove personal from {part.column!r}",
                )

    def _check_keep(self) -> None:
        """Raise ContractError if the drift window or the cooldown is longer than the retention of its data."""
        for name, days, setting, seconds in (
            ("log_days", self.keep.log_days, "Drift.window_seconds", self.drift.window_seconds),
            ("event_days", self.keep.event_days, "Drift.cooldown_seconds", self.drift.cooldown_seconds),
        ):
            if days * 86_400 < seconds:
                raise ContractError(
                    f"Keep.{name} is {days}, less than the {seconds} s of {setting}",
                    fix=f"Set Keep.{name} to {math.ceil(seconds / 86_400)} or more",
                )

    def _check_clients(self) -> None:
        checks.distinct("Project.trusted_clients", self.trusted_clients)
        for client in self.trusted_clients:
            if not client or client != client.strip() or len(client.split()) != 1:
                raise ContractError(
                    f"Project.trusted_clients contains {client!r}; allowed: names of tokens, without whitespace",
                    fix="Add a line `name token` for the client to the secret feedback_tokens, and use that name here",
                )

    def _check_group(self) -> None:
        if not self.group:
            return
        if self.temporal_group:
            raise ContractError(
                f"Project.group is {self.group!r}, but Project.temporal_group splits by time",
                fix="Remove one of them",
            )
        target = self.schema.target
        if target is not None and self.group == target.name:
            raise ContractError(
                f"Project.group is {self.group!r}, the target, which is unknown until the label arrives",
                fix="Use a feature or a column of the source",
            )
        if self.group in self.schema.feature_names:
            groups = [name for name, kind in kinds.KINDS.items() if kind.is_group]
            checks.one_of(f"Project.group: kind of {self.group!r}", self.schema[self.group].kind, groups)
            if self.schema[self.group].omitted:
                raise ContractError(
                    f"Project.group is {self.group!r}, a personal column that the log omits",
                    fix='Give that column kind="id", so that its values are hashed, or use another column',
                )

    @property
    def task(self) -> str:
        """The task, from the kind of the target: classification, regression, clustering (without a target), ..."""
        return kinds.of_target(self.schema.target).task if self.schema.target is not None else "clustering"

    @property
    def primary(self) -> Metric:
        """The metric that decides which model is better."""
        return self.metrics[0]

    @property
    def monitored_features(self) -> tuple[str, ...]:
        """Names whose drift is computed: scalar features, and descriptors of other features (`image.brightness`)."""
        features = self.drift.features or self.schema.feature_names
        return tuple(
            descriptor
            for name in features
            for descriptor in ((name,) if "." in name else self.schema[name].monitorable)
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to dictionaries and lists, for JSON."""
        return {key: _plain(getattr(self, key)) for key in self.__slots__} | {"task": self.task}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if hasattr(value, "__slots__"):
        return {key: _plain(getattr(value, key)) for key in value.__slots__}
    return value
