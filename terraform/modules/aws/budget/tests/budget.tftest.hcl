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
  name              = "ml-test"
  monthly_limit_usd = 500
  emails            = ["ml@example.com"]
}

run "two_mails" {
  command = plan

  assert {
    condition     = length(aws_budgets_budget.this.notification) == 2
    error_message = "a notification is missing"
  }
}

run "a_budget_that_reaches_nobody_is_refused" {
  command = plan

  variables {
    emails = []
  }

  expect_failures = [var.emails]
}

run "a_budget_of_nothing_is_refused" {
  command = plan

  variables {
    monthly_limit_usd = 0
  }

  expect_failures = [var.monthly_limit_usd]
}
