mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

variables {
  name        = "ml-test"
  kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "a_private_versioned_bucket" {
  command = plan

  assert {
    condition     = aws_s3_bucket.this.bucket == "ml-test-objects-123456789012" && !aws_s3_bucket.this.force_destroy
    error_message = "the bucket has another name, or destroy removes it with its objects"
  }

  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "replaced objects are lost"
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this.rule) == 3
    error_message = "the logs never expire"
  }
}

run "the_platform_s_own_folders_do_not_expire" {
  command = plan

  variables {
    expire = { "store/predictions/" = 30 }
  }

  expect_failures = [var.expire]
}

run "a_prefix_without_a_slash_is_refused" {
  command = plan

  variables {
    expire = { "airflow-logs" = 30 }
  }

  expect_failures = [var.expire]
}
