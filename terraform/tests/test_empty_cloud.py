"""The cloud that the tests run."""

from __future__ import annotations

import boto3

from terraform.tests import cloud


def test_a_cloud_starts_empty() -> None:
    for _repetition in range(2):
        with cloud.running() as (_, address):
            client = boto3.client(
                "s3",
                endpoint_url=address,
                region_name=cloud.REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            assert client.list_buckets()["Buckets"] == []
            client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": cloud.REGION})
