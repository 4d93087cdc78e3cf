"""The calls of EKS that moto lacks."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from moto.backends import get_backend
from werkzeug.wrappers import Request

from terraform.tests.answers import ACCOUNT, REGION, Answer, entry, request_body


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
            return {"association": self._associate(cluster, request_body(request))}
        if key is None:
            namespace = request.args.get("namespace")
            return {
                "associations": [
                    row
                    for (owner, _), row in self.associations.items()
                    if owner == cluster and (namespace is None or row["namespace"] == namespace)
                ]
            }
        return {"association": entry(self.associations, (cluster, key), remove=request.method == "DELETE")}

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
            body = request_body(request)
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
        addon = entry(self.addons, (cluster, name or ""), remove=remove)
        if remove:
            for arn in addon.get("podIdentityAssociations", []):
                self.associations.pop((cluster, arn.rpartition("/")[2]), None)
        return {"addon": addon}

    def _entry(self, request: Request, cluster: str, principal: str | None = None) -> Answer:
        if request.method == "POST":
            body = request_body(request)
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
        return {"accessEntry": entry(self.entries, (cluster, principal), remove=request.method == "DELETE")}

    def _policy(self, request: Request, cluster: str, principal: str, policy: str | None = None) -> Answer:
        entry(self.entries, (cluster, principal))
        policies = self.policies.setdefault((cluster, principal), {})
        if request.method == "POST":
            body = request_body(request)
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
            _merge(self.requests.setdefault(path, {}), request_body(request))
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
                self.requests[path] = request_body(request)
                if kind == "cluster":
                    self.groups[path] = _security_group(row["name"], row["resourcesVpcConfig"]["subnetIds"][0])
            elif request.method == "DELETE":
                self.requests.pop(path, None)
            if kind == "cluster":
                row["resourcesVpcConfig"]["clusterSecurityGroupId"] = self.groups[path]
                if request.method == "DELETE":
                    ec2_backend().delete_security_group(group_id=self.groups[path])
            requested = json.loads(json.dumps(self.requests.get(path, {})))
            for key in ("clientRequestToken", "tags", "bootstrapSelfManagedAddons"):
                requested.pop(key, None)
            (_complete_cluster if kind == "cluster" else _complete_group)(row, requested)
        return content


def _complete_cluster(row: Answer, requested: Answer) -> None:
    access = requested.pop("accessConfig", {})
    _merge(row, requested)
    row["accessConfig"] = {"authenticationMode": access.get("authenticationMode", "API")}


def ec2_backend() -> Any:
    """Return moto's EC2."""
    return get_backend("ec2")[ACCOUNT][REGION]


def _security_group(cluster: str, subnet: str) -> str:
    """What EKS makes for nodes and control plane."""
    vpc = ec2_backend().get_subnet(subnet).vpc_id
    group: str = ec2_backend().create_security_group(f"eks-cluster-sg-{cluster}", "EKS", vpc_id=vpc).id
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
