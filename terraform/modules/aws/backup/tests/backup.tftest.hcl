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
  name = "ml-test"
}

run "backups_survive" {
  command = plan

  assert {
    condition     = !aws_s3_bucket.this.force_destroy && aws_kms_key.this.enable_key_rotation
    error_message = "destroy removes backups, or their key is never rotated"
  }
}

run "an_account_has_twelve_digits" {
  command = plan

  variables {
    accounts = ["1234"]
  }

  expect_failures = [var.accounts]
}

run "a_day_is_too_short" {
  command = plan

  variables {
    noncurrent_days = 1
  }

  expect_failures = [var.noncurrent_days]
}
