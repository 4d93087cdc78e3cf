"""The environments of AWS, applied, changed, applied again and destroyed against moto.

`cloud.LACKING` lists what moto does not have.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from phaseflow.settings import ROOT
from terraform.tests import cloud
from terraform.tests.conftest import STATES, Aws, Environment, environment

pytestmark = pytest.mark.timeout(3600)  # a busy machine is slow

NAME = "ml-test"
AUTHORITIES = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
ADMIN = f"arn:aws:iam::{cloud.ACCOUNT}:role/admin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="module")
def backup(aws: Aws, folder: Path) -> Environment:
    env = environment(aws, "backup", folder)
    env.set(region=cloud.REGION, name=NAME, force_destroy=True)
    env.apply()
    return env


@pytest.fixture(scope="module")
def values(backup: Environment) -> dict[str, Any]:
    """Variables of the environment."""
    return {
        "region": cloud.REGION,
        "name": NAME,
        "admins": [ADMIN],
        "image_tag": "src-1",
        "database_authorities": AUTHORITIES,
        "backup": json.loads(backup.must("output", "-json", "backup")),
        "budget": {"monthly_limit_usd": 400, "emails": ["ml@example.com"]},
    }


@pytest.fixture(scope="module")
def small(aws: Aws, folder: Path, values: dict[str, Any]) -> Environment:
    env = environment(aws, "small", folder)
    env.set(**values)
    env.apply()
    return env


def test_the_network_has_three_subnets_per_zone(aws: Aws, small: Environment) -> None:
    ec2 = aws.client("ec2")
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "tag:Name", "Values": [NAME]}])["Vpcs"]
    in_vpc = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    subnets = ec2.describe_subnets(Filters=in_vpc)["Subnets"]
    assert (vpc["CidrBlock"], len(subnets)) == ("10.64.0.0/16", 6)
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
    assert len(ec2.describe_nat_gateways(Filters=in_vpc)["NatGateways"]) == 1
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets)


def test_the_kubernetes_api_is_private_and_its_add_ons_are_there(aws: Aws, small: Environment) -> None:
    eks = aws.client("eks")
    cluster = eks.describe_cluster(name=NAME)["cluster"]
    assert cluster["resourcesVpcConfig"]["endpointPublicAccess"] is False
    assert set(eks.list_nodegroups(clusterName=NAME)["nodegroups"]) == {"general", "spot"}
    assert {name for _, name in aws.front.eks.addons} == {
        *("vpc-cni", "kube-proxy", "eks-pod-identity-agent", "coredns", "metrics-server", "aws-ebs-csi-driver"),
    }
    assert list(aws.front.eks.policies) == [(NAME, ADMIN)]


def test_each_service_account_has_the_role_of_its_part(aws: Aws, small: Environment) -> None:
    rows = {
        row["serviceAccount"]: row for row in aws.front.eks.associations.values() if row["namespace"] == "phaseflow"
    }
    assert rows.keys() >= {"phaseflow-serving", "phaseflow-backup", "pipeline-runner"}
    role = rows["phaseflow-serving"]["roleArn"].rpartition("/")[2]
    policy = aws.client("iam").get_role_policy(RoleName=role, PolicyName="objects")["PolicyDocument"]
    writes = [statement for statement in policy["Statement"] if "s3:PutObject" in statement["Action"]]
    bucket = f"arn:aws:s3:::{NAME}-objects-{cloud.ACCOUNT}"
    assert writes[0]["Resource"] == [f"{bucket}/store/{name}/*" for name in ("predictions", "feedback", "events")]


def test_the_database_is_encrypted_and_its_password_is_managed(aws: Aws, small: Environment) -> None:
    (instance,) = aws.client("rds").describe_db_instances()["DBInstances"]
    assert instance["StorageEncrypted"] is True
    assert instance["PubliclyAccessible"] is False
    assert instance["MasterUserSecret"]["SecretArn"]


def test_buckets_are_private_encrypted_and_versioned(aws: Aws, small: Environment) -> None:
    s3 = aws.client("s3")
    for kind in ("objects", "backup"):
        name = f"{NAME}-{kind}-{cloud.ACCOUNT}"
        assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        rules = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"


def test_no_password_is_in_a_state(aws: Aws, small: Environment) -> None:
    manager, s3 = aws.client("secretsmanager"), aws.client("s3")
    passwords: set[str] = set()
    for row in manager.list_secrets()["SecretList"]:
        content = json.loads(manager.get_secret_value(SecretId=row["ARN"])["SecretString"])
        passwords |= {value for key, value in content.items() if key != "username"}
    assert len(passwords) >= 8
    for item in s3.list_objects_v2(Bucket=STATES)["Contents"]:
        state = s3.get_object(Bucket=STATES, Key=item["Key"])["Body"].read().decode()
        assert not [password for password in passwords if password in state], item["Key"]


def test_a_state_that_is_in_use_is_locked(aws: Aws, small: Environment) -> None:
    s3 = aws.client("s3")
    lock = {"ID": "1", "Operation": "apply", "Who": "somebody", "Version": "1.11.4", "Created": "2026-01-01T00:00:00Z"}
    s3.put_object(Bucket=STATES, Key="phaseflow/small.tfstate.tflock", Body=json.dumps(lock))
    try:
        completed = small.run("apply", "-auto-approve", "-input=false", "-no-color", f"-var-file={small.variables}")
    finally:
        s3.delete_object(Bucket=STATES, Key="phaseflow/small.tfstate.tflock")
    assert completed.returncode == 1
    assert "Error acquiring the state lock" in completed.stderr


def test_a_second_apply_changes_nothing(small: Environment) -> None:
    assert small.changes() == []


def test_the_values_render_the_chart(small: Environment, tmp_path: Path) -> None:
    objects = rendered(small, tmp_path)
    kinds = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in objects}
    assert ("ServiceAccount", "phaseflow-serving") in kinds
    assert not [
        name
        for kind, name in kinds
        if kind == "StatefulSet" and name.startswith(("phaseflow-postgres", "phaseflow-s3"))
    ]
    accounts = {name for kind, name in kinds if kind == "ServiceAccount"}
    with_roles = accounts & set(json.loads(small.must("output", "-json", "service_accounts")))
    assert with_roles >= {"phaseflow-airflow", "phaseflow-airflow-task", "phaseflow-pipelines", "phaseflow-backup"}


def test_the_manifests_name_each_secret_that_the_values_name(small: Environment) -> None:
    manifests = list(yaml.safe_load_all(small.must("output", "-raw", "manifests")))
    targets = {row["spec"]["target"]["name"] for row in manifests if row["kind"] == "ExternalSecret"}
    values = yaml.safe_load(small.must("output", "-raw", "values"))
    postgres = values["global"]["postgres"]
    assert {
        *postgres["existingSecrets"].values(),
        postgres["bootstrap"]["existingSecret"],
        values["global"]["personal"]["existingSecret"],
        values["airflow"]["existingSecret"],
    } <= targets
    assert postgres["sslMode"] == "verify-full"
    (authorities,) = (row for row in manifests if row["kind"] == "Secret")
    assert authorities["metadata"]["name"] == postgres["caSecret"]
    assert authorities["stringData"]["ca.crt"] == AUTHORITIES


def test_a_change_is_applied_and_then_nothing_is_left_to_change(
    aws: Aws, small: Environment, values: dict[str, Any]
) -> None:
    small.set(**values | {"image_tag": "src-2", "budget": {"monthly_limit_usd": 500, "emails": ["ml@example.com"]}})
    small.apply()
    assert small.changes() == []
    assert "src-2" in small.must("output", "-raw", "values")
    budget = aws.client("budgets").describe_budget(AccountId=cloud.ACCOUNT, BudgetName=NAME)["Budget"]
    assert float(budget["BudgetLimit"]["Amount"]) == 500


def test_destroy_leaves_the_backups_alone(aws: Aws, small: Environment, backup: Environment) -> None:
    small.destroy()
    assert aws.leftovers() == [f"bucket {NAME}-backup-{cloud.ACCOUNT}"]
    backup.destroy()
    assert aws.leftovers() == []


def rendered(env: Environment, folder: Path) -> list[dict[str, Any]]:
    """The chart's objects with the values of an environment."""
    assert shutil.which("helm"), (
        "helm is not on the PATH. Install it: https://helm.sh/docs/intro/install (3.14 or newer)."
    )
    subprocess.run([ROOT / "bin" / "charts", folder / "charts"], check=True)
    (folder / "values.yaml").write_text(env.must("output", "-raw", "values"))
    command = ["helm", "template", "phaseflow", folder / "charts" / "platform", "--namespace", "phaseflow"]
    completed = subprocess.run([*command, "--values", folder / "values.yaml"], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    return [manifest for manifest in yaml.safe_load_all(completed.stdout) if manifest]
