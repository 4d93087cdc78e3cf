# A mock of Terraform 1.11 has no ephemeral resources, and the provider's own asks AWS for a password in each plan. So these plans have no password.
# That passwords are made, and that none is in a state, is tested against moto (terraform/tests/test_aws.py).
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  name        = "ml-test"
  kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "three_days_are_refused" {
  command = plan

  variables {
    secrets       = {}
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
    secrets    = {}
    generation = { postgres = 1.5 }
  }

  expect_failures = [var.generation]
}
