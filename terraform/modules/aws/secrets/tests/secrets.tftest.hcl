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

run "passwords_are_in_no_plan" {
  command = plan

  assert {
    condition     = aws_secretsmanager_secret_version.this["airflow"].secret_string_wo == null && aws_secretsmanager_secret_version.this["airflow"].secret_string_wo_version == 1
    error_message = "a password is in the plan"
  }

  assert {
    condition     = aws_secretsmanager_secret.this["postgres"].name == "ml-test/postgres"
    error_message = "a secret has another name"
  }
}

run "a_generation_is_each_secret_s_own" {
  command = plan

  variables {
    generation = { postgres = 2 }
  }

  assert {
    condition     = aws_secretsmanager_secret_version.this["postgres"].secret_string_wo_version == 2 && aws_secretsmanager_secret_version.this["personal"].secret_string_wo_version == 1
    error_message = "another secret changes"
  }
}

run "three_days_are_refused" {
  command = plan

  variables {
    recovery_days = 3
  }

  expect_failures = [var.recovery_days]
}
