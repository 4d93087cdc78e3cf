"""An AWS for tests: moto's server, and before it answers to the calls that moto lacks.

`LACKING` lists each of these calls. The answers keep what was asked for and give it back, as AWS does; nothing else about them is real.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from moto.backends import get_backend
from moto.moto_api._internal import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from terraform.tests.answers import ACCOUNT, REGION, Answer, NotThereError, request_body
from terraform.tests.eks import Eks, ec2_backend

LACKING: Final = {
    "eks": (
        "add-ons: create, describe, update, delete",
        "pod identity associations: create, describe, list, delete",
        "access entries and their policies: create, describe, list, delete",
        "updates: describe; a cluster's version: update",
        "the security group of a cluster",
        "fields of clusters (access, upgrade policy, updates of the network) and of node groups (updates, repair, health)",
    ),
    "ecr": ("pull-through cache rules", "repository creation templates"),
    "budgets": ("subscribers, tags, and the update of a budget: the whole service is answered here",),
}
"""What moto 5.2 does not answer, by service."""
FORGOTTEN: Final = {
    "aws_db_instance": {
        "monitoring_interval",
        "monitoring_role_arn",
        "performance_insights_enabled",
        "performance_insights_kms_key_id",
        "performance_insights_retention_period",
    },
    "aws_vpc_security_group_ingress_rule": {"description"},
}
"""Arguments that moto takes and does not keep, by type of resource: each plan wants to set them again."""


@dataclass
class Ecr:
    """The calls of ECR that moto lacks: rules and templates, each by its prefix."""

    rules: dict[str, Answer] = field(default_factory=dict)
    templates: dict[str, Answer] = field(default_factory=dict)

    def answer(self, request: Request) -> Answer | None:
        """The answer to a request, or None if moto answers it."""
        action = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        for word, rows, prefix, plural, single in (
            ("PullThroughCacheRule", self.rules, "ecrRepositoryPrefix", "pullThroughCacheRules", ""),
            (
                "RepositoryCreationTemplate",
                self.templates,
                "prefix",
                "repositoryCreationTemplates",
                "repositoryCreationTemplate",
            ),
        ):
            if word in action:
                return _prefixed(action, request_body(request), rows, prefix, plural, single)
        return None


def _prefixed(action: str, body: Answer, rows: dict[str, Answer], prefix: str, plural: str, single: str) -> Answer:
    if action.startswith("Describe"):
        names = body.get("ecrRepositoryPrefixes") or body.get("prefixes")
        requested = [row for name, row in rows.items() if names is None or name in names]
        if names and not requested:
            raise NotThereError(f"No {names}")
        return {"registryId": ACCOUNT, plural: requested}
    name = body[prefix]
    if action.startswith(("Create", "Update")):
        rows[name] = rows.get(name, {}) | {"registryId": ACCOUNT, "createdAt": 0, "updatedAt": 0} | body
    elif name not in rows:
        raise NotThereError(f"No {name}")
    row = rows.pop(name) if action.startswith("Delete") else rows[name]
    return {single: row, "registryId": ACCOUNT} if single else row


@dataclass
class Budgets:
    """AWS Budgets: moto has no subscribers, tags and updates."""

    budgets: dict[str, Answer] = field(default_factory=dict)
    notifications: dict[str, list[Answer]] = field(default_factory=dict)
    tags: dict[str, list[Answer]] = field(default_factory=dict)

    def answer(self, request: Request) -> Answer | None:
        """The answer to a request."""
        action, body = request.headers.get("X-Amz-Target", "").rpartition(".")[2], request_body(request)
        match action:
            case "CreateBudget":
                name = body["Budget"]["BudgetName"]
                self.budgets[name], self.notifications[name] = body["Budget"], []
                self.tags[name] = body.get("ResourceTags", [])
            case "UpdateBudget":
                self.budgets[body["NewBudget"]["BudgetName"]] |= body["NewBudget"]
            case "ListTagsForResource":
                return {"ResourceTags": self.tags.get(body["ResourceARN"].rpartition("/")[2], [])}
            case _:
                return self._of_budget(action, body)
        return {}

    def _of_budget(self, action: str, body: Answer) -> Answer | None:
        name = body.get("BudgetName", "")
        if name not in self.budgets:
            raise NotThereError(f"No budget {name}")
        rows = self.notifications[name]
        match action:
            case "DescribeBudget":
                return {"Budget": self.budgets[name]}
            case "DeleteBudget":
                self.budgets.pop(name)
            case "CreateNotification":
                rows.append(body)
            case "DescribeNotificationsForBudget":
                return {"Notifications": [row["Notification"] for row in rows]}
            case "DescribeSubscribersForNotification":
                requested = _key(body["Notification"])
                return {
                    "Subscribers": [
                        subscriber
                        for row in rows
                        if _key(row["Notification"]) == requested
                        for subscriber in row["Subscribers"]
                    ]
                }
            case "DeleteNotification":
                rows[:] = [row for row in rows if _key(row["Notification"]) != _key(body["Notification"])]
            case _:
                return None
        return {}


def _key(notification: Answer) -> tuple[str, float]:
    return notification["NotificationType"], float(notification["Threshold"])


class Front:
    """A WSGI application: the answers above, and moto's."""

    def __init__(self) -> None:
        self.eks, self.ecr, self.budgets = Eks(), Ecr(), Budgets()
        self._services: dict[str, Eks | Ecr | Budgets] = {"eks": self.eks, "ecr": self.ecr, "budgets": self.budgets}
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request after the other: moto is not made for several threads."""
        with self._lock:
            return list(self._answer(environ, start))

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ, populate_request=False)
        service = re.search(r"/(eks|ecr|budgets|ec2|rds)/aws4_request", request.headers.get("Authorization", ""))
        if service is None:
            return self._moto(environ, start)  # type: ignore[no-any-return]
        if service[1] in {"ec2", "rds"}:
            return _repair(self._moto(environ, start))
        body = request.get_data(cache=True)
        try:
            answer = self._services[service[1]].answer(request)
        except NotThereError as error:
            return _not_there(service[1], request, error)(environ, start)
        if answer is not None:
            return _response(answer)(environ, start)
        _rewind(environ, body)
        if service[1] != "eks":
            return self._moto(environ, start)  # type: ignore[no-any-return]
        response = Response.from_app(self._moto, environ)
        if response.status_code < 300:
            content = json.loads(response.get_data() or b"{}")
            response.set_data(json.dumps(self.eks.complete(request, content)))
        return response(environ, start)


def _repair(response: Iterable[bytes]) -> Iterable[bytes]:
    """What moto keeps otherwise than AWS: tags of a launch template are not tags of its instances, and parameters that were set are a user's."""
    content = list(response)
    for template in ec2_backend().launch_templates.values():
        for version in template.versions:
            rows = version.data.get("TagSpecifications", [])
            rows[:] = [row for row in rows if row.get("ResourceType") != "launch-template"]
    for group in get_backend("rds")[ACCOUNT][REGION].db_parameter_groups.values():
        for parameter in group.parameters.values():
            parameter.setdefault("Source", "user")
    return content


def _rewind(environ: dict[str, Any], body: bytes) -> None:
    """Let another application read the body again."""
    import io

    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    for key in [name for name in environ if name.startswith("werkzeug.")]:
        environ.pop(key)


def _response(content: Answer) -> Response:
    return Response(json.dumps(content), content_type="application/json")


def _not_there(service: str, request: Request, error: NotThereError) -> Response:
    action = request.headers.get("X-Amz-Target", "")
    kinds = {
        "Cache": "PullThroughCacheRuleNotFoundException",
        "Template": "TemplateNotFoundException",
        "Budget": "NotFoundException",
    }
    kind = next((name for word, name in kinds.items() if word in action), "ResourceNotFoundException")
    response = Response(
        json.dumps({"__type": kind, "message": str(error)}),
        status=404 if service == "eks" else 400,
        mimetype="application/json",
    )
    response.headers["x-amzn-ErrorType"] = kind
    return response


@contextmanager
def running() -> Iterator[tuple[Front, str]]:
    """A cloud of its own on a free port: its front, and its address."""
    moto_api_backend.reset()  # moto's rows are the process's
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"  # else AWS' own policies do not exist
    front = Front()
    server = make_server("127.0.0.1", 0, front, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield front, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
