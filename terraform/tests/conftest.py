"""Terraform on the cloud of `cloud.py`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

from phaseflow.settings import ROOT
from terraform.tests import cloud

STATES: Final = "phaseflow-states"
TERRAFORM: Final = os.environ.get("TERRAFORM", "terraform")
MIRROR: Final = "TF_PLUGIN_MIRROR"
"""Variable with a folder of provider packages, for machines that do not reach Terraform's registry."""


@dataclass(frozen=True)
class Aws:
    front: cloud.Front
    address: str
    environment: dict[str, str]

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name=cloud.REGION,
            endpoint_url=self.address,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def leftovers(self) -> list[str]:
        """What costs money or opens something, by kind and name; the states' bucket and a new account's default network aside."""
        ec2, iam = self.client("ec2"), self.client("iam")
        rows = [f"bucket {row['Name']}" for row in self.client("s3").list_buckets()["Buckets"] if row["Name"] != STATES]
        rows += [f"cluster {name}" for name in self.client("eks").list_clusters()["clusters"]]
        rows += [f"add-on {name}" for _, name in self.front.eks.addons]
        rows += [f"association {row['serviceAccount']}" for row in self.front.eks.associations.values()]
        rows += [f"cache {name}" for name in [*self.front.ecr.rules, *self.front.ecr.templates]]
        rows += [
            f"database {row['DBInstanceIdentifier']}"
            for row in self.client("rds").describe_db_instances()["DBInstances"]
        ]
        rows += [
            f"repository {row['repositoryName']}" for row in self.client("ecr").describe_repositories()["repositories"]
        ]
        rows += [f"secret {row['Name']}" for row in self.client("secretsmanager").list_secrets()["SecretList"]]
        rows += [f"role {row['RoleName']}" for row in iam.list_roles()["Roles"]]
        rows += [f"logs {row['logGroupName']}" for row in self.client("logs").describe_log_groups()["logGroups"]]
        rows += [f"network {row['VpcId']}" for row in ec2.describe_vpcs()["Vpcs"] if not row["IsDefault"]]
        rows += [f"address {row['AllocationId']}" for row in ec2.describe_addresses()["Addresses"]]
        rows += [
            f"gateway {row['NatGatewayId']}"
            for row in ec2.describe_nat_gateways()["NatGateways"]
            if row["State"] != "deleted"
        ]
        return rows


@dataclass(frozen=True)
class Environment:
    """A folder of terraform/envs/aws, with its state in a bucket of the cloud."""

    folder: Path
    variables: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [TERRAFORM, f"-chdir={self.folder}", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def must(self, *arguments: str) -> str:
        completed = self.run(*arguments)
        assert completed.returncode == 0, completed.stdout[-4000:] + completed.stderr
        return completed.stdout

    def set(self, **values: object) -> None:
        self.variables.write_text(json.dumps(values))

    def apply(self) -> str:
        return self.must("apply", "-auto-approve", "-input=false", "-no-color", f"-var-file={self.variables}")

    def changes(self) -> list[str]:
        """`address: argument` of each change of a further apply, without what the cloud forgets."""
        plan = self.variables.with_suffix(".plan")
        self.must("plan", "-input=false", "-no-color", f"-var-file={self.variables}", f"-out={plan}")
        content = json.loads(self.must("show", "-json", str(plan)))
        rows = []
        for row in content.get("resource_changes", []):
            change = row["change"]
            if row["mode"] == "data" or change["actions"] in (["no-op"], ["read"]):
                continue
            before, after = change["before"] or {}, change["after"] or {}
            unknown = {key for key, value in change["after_unknown"].items() if value is True}
            names = {
                key
                for key in before.keys() | after.keys() | unknown
                if key in unknown or before.get(key) != after.get(key)
            }
            rows += [f"{row['address']}: {name}" for name in sorted(names - cloud.FORGOTTEN.get(row["type"], set()))]
        return rows

    def destroy(self) -> str:
        return self.must("destroy", "-auto-approve", "-input=false", "-no-color", f"-var-file={self.variables}")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    assert shutil.which(TERRAFORM), (
        f"{TERRAFORM} is not on the PATH. Install it: https://developer.hashicorp.com/terraform/install (1.11 or newer)."
    )
    folder = tmp_path_factory.mktemp("terraform")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "TF_"))}
    if MIRROR in os.environ:
        config = folder / "terraformrc"
        config.write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{os.environ[MIRROR]}"\n  }}\n}}\n'
        )
        environment["TF_CLI_CONFIG_FILE"] = str(config)
    with cloud.running() as (front, address):
        environment |= {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": cloud.REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        aws = Aws(front, address, environment)
        aws.client("s3").create_bucket(Bucket=STATES, CreateBucketConfiguration={"LocationConstraint": cloud.REGION})
        yield aws


def environment(aws: Aws, name: str, folder: Path) -> Environment:
    """An environment after `terraform init`."""
    variables = aws.environment | {"TF_DATA_DIR": str(folder / f"data-{name}")}
    env = Environment(ROOT / "terraform" / "envs" / "aws" / name, folder / f"{name}.tfvars.json", variables)
    env.must(
        "init",
        "-input=false",
        "-no-color",
        f"-backend-config=bucket={STATES}",
        f"-backend-config=region={cloud.REGION}",
    )
    return env
