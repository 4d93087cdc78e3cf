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

# A mock has no ephemeral resources. That no password is in a state is held against moto (terraform/tests/test_aws.py).

run "three_days_are_refused" {
  command = plan

  variables {
    recovery_days = 3
  }

  expect_failures = [var.recovery_days]
}

run "a_secret_without_a_key_is_refused" {
  command = plan

  variables {
    secrets = { postgres = [] }
  }

  expect_failures = [var.secrets]
}

run "half_a_generation_is_refused" {
  command = plan

  variables {
    generation = { postgres = 1.5 }
  }

  expect_failures = [var.generation]
}
