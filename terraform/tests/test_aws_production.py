"""The environment production of AWS, planned with moto: what the environment small does not have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from terraform.tests import cloud
from terraform.tests.conftest import Aws, environment

pytestmark = pytest.mark.timeout(3600)  # a busy machine is slow

BACKUP_KEY = f"arn:aws:kms:{cloud.REGION}:{cloud.ACCOUNT}:key/00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def planned(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The resources that an apply would make."""
    folder = tmp_path_factory.mktemp("production")
    env = environment(aws, "production", folder)
    env.set(
        region=cloud.REGION,
        name="ml-team",
        admins=[f"arn:aws:iam::{cloud.ACCOUNT}:role/admin"],
        dns={"host": "ml.example.com", "zone": "example.com", "create_zone": True, "wait_for_certificate": False},
        backup={"bucket": "ml-backup", "kms_key_arn": BACKUP_KEY},
        budget={"monthly_limit_usd": 2000, "emails": ["ml@example.com"]},
    )
    plan = str(folder / "plan")
    env.must("plan", "-input=false", "-no-color", f"-var-file={env.variables}", f"-out={plan}")
    changes = json.loads(env.must("show", "-json", plan))["resource_changes"]
    return [row for row in changes if row["change"]["actions"] == ["create"]]


def of(planned: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Arguments of the resources of a type, by their keys."""
    return {str(row.get("index", "")): row["change"]["after"] for row in planned if row["type"] == kind}


def test_it_has_a_gateway_per_zone_both_databases_and_nodes_with_gpus(planned: list[dict[str, Any]]) -> None:
    assert len(of(planned, "aws_nat_gateway")) == 3
    assert of(planned, "aws_eks_node_group").keys() == {"general", "spot", "gpu"}
    databases = of(planned, "aws_db_instance")
    assert databases.keys() == {"postgres", "mysql"}
    assert all(row["multi_az"] and row["deletion_protection"] for row in databases.values())


def test_its_certificate_is_for_the_host(planned: list[dict[str, Any]]) -> None:
    (certificate,) = of(planned, "aws_acm_certificate").values()
    assert certificate["domain_name"] == "ml.example.com"
