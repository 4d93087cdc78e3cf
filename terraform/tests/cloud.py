"""An AWS for tests: moto's server, and before it answers to the calls that moto lacks.

`LACKING` lists each of these calls. The answers keep what was asked for and give it back, as AWS does; nothing else about them is real.
"""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

ACCOUNT: Final = "123456789012"
REGION: Final = "eu-central-1"
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

Answer = dict[str, Any]


class NotThereError(Exception):
    """The object does not exist."""


@dataclass
class Eks:
    """The calls of EKS that moto lacks."""

    addons: dict[tuple[str, str], Answer] = field(default_factory=dict)
    associations: dict[tuple[str, str], Answer] = field(default_factory=dict)
    entries: dict[tuple[str, str], Answer] = field(default_factory=dict)
    policies: dict[tuple[str, str], dict[str, Answer]] = field(default_factory=dict)
    requests: dict[str, Answer] = field(default_factory=dict)
    """What a cluster or a node group was made or changed with, by path."""
    groups: dict[str, str] = field(default_factory=dict)
    """The security group of each cluster."""

    def answer(self, request: Request) -> Answer | None:
        """The answer to a request, or None if moto answers it."""
        for pattern, handler in (
            (r"/clusters/([^/]+)/addons(?:/([^/]+))?(/update)?$", self._addon),
            (r"/clusters/([^/]+)/pod-identity-associations(?:/([^/]+))?$", self._association),
            (r"/clusters/([^/]+)/access-entries/(.+)/access-policies(?:/(.+))?$", self._policy),
            (r"/clusters/([^/]+)/access-entries(?:/(.+))?$", self._entry),
            (r"/clusters/([^/]+)/(?:node-groups/[^/]+/)?updates?(?:-config|-version|/[^/]+)?$", self._update),
        ):
            if match := re.match(pattern, request.path):
                return handler(request, *match.groups())
        return None

    def _association(self, request: Request, cluster: str, key: str | None = None) -> Answer:
        if request.method == "POST" and key is None:
            return {"association": self._associate(cluster, _json(request))}
        if key is None:
            namespace = request.args.get("namespace")
            return {
                "associations": [
                    row
                    for (owner, _), row in self.associations.items()
                    if owner == cluster and (namespace is None or row["namespace"] == namespace)
                ]
            }
        return {"association": _of(self.associations, (cluster, key), remove=request.method == "DELETE")}

    def _associate(self, cluster: str, requested: Answer) -> Answer:
        key = f"a-{uuid.uuid4().hex[:16]}"
        arn = f"arn:aws:eks:{REGION}:{ACCOUNT}:podidentityassociation/{cluster}/{key}"
        row = {"clusterName": cluster, "associationId": key, "associationArn": arn, "tags": {}, **requested}
        self.associations[cluster, key] = row
        return row

    def _addon(self, request: Request, cluster: str, name: str | None = None, update: str | None = None) -> Answer:
        if request.method == "GET" and name is None:
            return {"addons": [addon for owner, addon in self.addons if owner == cluster]}
        if request.method == "POST":
            body = _json(request)
            name = name or str(body["addonName"])
            row = self.addons.setdefault(
                (cluster, name),
                {
                    "addonName": name,
                    "clusterName": cluster,
                    "addonVersion": "v1.0.0-eksbuild.1",
                    "addonArn": f"arn:aws:eks:{REGION}:{ACCOUNT}:addon/{cluster}/{name}/{uuid.uuid4()}",
                    "status": "ACTIVE",
                    "health": {"issues": []},
                    "createdAt": 0,
                    "modifiedAt": 0,
                    "tags": {},
                },
            )
            requested = body.pop("podIdentityAssociations", None)
            row.update({key: value for key, value in body.items() if value is not None})
            if requested is not None:
                rows = [self._associate(cluster, {"namespace": "kube-system", **item}) for item in requested]
                row["podIdentityAssociations"] = [item["associationArn"] for item in rows]
            return _successful() if update else {"addon": row}
        remove = request.method == "DELETE"
        addon = _of(self.addons, (cluster, name or ""), remove=remove)
        if remove:
            for arn in addon.get("podIdentityAssociations", []):
                self.associations.pop((cluster, arn.rpartition("/")[2]), None)
        return {"addon": addon}

    def _entry(self, request: Request, cluster: str, principal: str | None = None) -> Answer:
        if request.method == "POST":
            body = _json(request)
            principal = principal or str(body["principalArn"])
            self.entries[cluster, principal] = {
                "accessEntryArn": f"arn:aws:eks:{REGION}:{ACCOUNT}:access-entry/{cluster}/{uuid.uuid4()}",
                "clusterName": cluster,
                "kubernetesGroups": [],
                "type": "STANDARD",
                "username": principal,
                "createdAt": 0,
                "modifiedAt": 0,
                "tags": {},
                **body,
            }
        if principal is None:
            return {"accessEntries": [arn for owner, arn in self.entries if owner == cluster]}
        return {"accessEntry": _of(self.entries, (cluster, principal), remove=request.method == "DELETE")}

    def _policy(self, request: Request, cluster: str, principal: str, policy: str | None = None) -> Answer:
        _of(self.entries, (cluster, principal))
        policies = self.policies.setdefault((cluster, principal), {})
        if request.method == "POST":
            body = _json(request)
            row = {**body, "associatedAt": 0, "modifiedAt": 0}
            policies[body["policyArn"]] = row
            return {"clusterName": cluster, "principalArn": principal, "associatedAccessPolicy": row}
        if request.method == "DELETE":
            policies.pop(policy or "", None)
        return {
            "clusterName": cluster,
            "principalArn": principal,
            "associatedAccessPolicies": list(policies.values()),
        }

    def _update(self, request: Request, *_: str) -> Answer:
        if request.method == "POST":
            path = re.sub(r"/updates?(-config|-version)?$", "", request.path)
            _merge(self.requests.setdefault(path, {}), _json(request))
        return _successful()

    def complete(self, request: Request, content: Answer) -> Answer:
        """moto's answer about a cluster or a node group, with the fields that moto drops."""
        for kind in ("cluster", "nodegroup"):
            if kind not in content:
                continue
            row = content[kind]
            path = f"/clusters/{row['name' if kind == 'cluster' else 'clusterName']}"
            path += f"/node-groups/{row['nodegroupName']}" if kind == "nodegroup" else ""
            if request.method == "POST":
                self.requests[path] = _json(request)
                if kind == "cluster":
                    self.groups[path] = _security_group(row["name"], row["resourcesVpcConfig"]["subnetIds"][0])
            elif request.method == "DELETE":
                self.requests.pop(path, None)
            if kind == "cluster":
                row["resourcesVpcConfig"]["clusterSecurityGroupId"] = self.groups[path]
                if request.method == "DELETE":
                    _ec2().delete_security_group(group_id=self.groups[path])
            requested = json.loads(json.dumps(self.requests.get(path, {})))
            for key in ("clientRequestToken", "tags", "bootstrapSelfManagedAddons"):
                requested.pop(key, None)
            (_complete_cluster if kind == "cluster" else _complete_group)(row, requested)
        return content


def _complete_cluster(row: Answer, requested: Answer) -> None:
    access = requested.pop("accessConfig", {})
    _merge(row, requested)
    row["accessConfig"] = {"authenticationMode": access.get("authenticationMode", "API")}


def _ec2() -> Any:
    return get_backend("ec2")[ACCOUNT][REGION]


def _security_group(cluster: str, subnet: str) -> str:
    """What EKS makes for nodes and control plane."""
    vpc = _ec2().get_subnet(subnet).vpc_id
    group: str = _ec2().create_security_group(f"eks-cluster-sg-{cluster}", "EKS", vpc_id=vpc).id
    return group


def _complete_group(row: Answer, requested: Answer) -> None:
    for change in ("labels", "taints"):
        if isinstance(requested.get(change), dict) and {"addOrUpdateLabels", "addOrUpdateTaints"} & set(
            requested[change]
        ):
            requested.pop(change)
    _merge(row, requested)
    row["health"] = {"issues": []}
    row["updateConfig"] = requested.get("updateConfig", {"maxUnavailable": 1})
    row.pop("remoteAccess", None)  # moto's own default, which no request had


def _merge(target: Answer, changes: Answer) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif value is not None:
            target[key] = value


def _successful() -> Answer:
    return {"update": {"id": str(uuid.uuid4()), "status": "Successful", "type": "ConfigUpdate", "errors": []}}


def _of(rows: dict[tuple[str, str], Answer], key: tuple[str, str], *, remove: bool = False) -> Answer:
    if key not in rows:
        raise NotThereError(f"No {key[1]} in {key[0]}")
    return rows.pop(key) if remove else rows[key]


def _json(request: Request) -> Answer:
    content: Answer = json.loads(request.get_data() or b"{}")
    return content


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
                return _prefixed(action, _json(request), rows, prefix, plural, single)
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
        action, body = request.headers.get("X-Amz-Target", "").rpartition(".")[2], _json(request)
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
        """Answer one request."""
        request = Request(environ, populate_request=False)
        service = re.search(r"/(eks|ecr|budgets|ec2|rds)/aws4_request", request.headers.get("Authorization", ""))
        if service is None:
            return self._moto(environ, start)  # type: ignore[no-any-return]
        if service[1] in {"ec2", "rds"}:
            return _repair(self._moto(environ, start))
        body = request.get_data(cache=True)
        with self._lock:
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
    for template in _ec2().launch_templates.values():
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
    """The cloud on a free port: its front, and its address."""
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
