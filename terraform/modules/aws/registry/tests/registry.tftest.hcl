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
  name        = "ml"
  kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "a_repository_per_image" {
  command = plan

  assert {
    condition     = contains(keys(aws_ecr_repository.this), "airflow") && aws_ecr_repository.this["airflow"].name == "ml/airflow"
    error_message = "the repository of Airflow's image is missing"
  }

  assert {
    condition     = alltrue([for repository in aws_ecr_repository.this : repository.image_tag_mutability == "IMMUTABLE"])
    error_message = "a tag can be moved"
  }

  assert {
    condition     = output.registry == "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml"
    error_message = "REGISTRY is another address"
  }

  assert {
    condition     = output.mirrors == { "quay.io" = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml-quay" }
    error_message = "the mirror of quay.io has another address"
  }
}

run "docker_hub_needs_an_account" {
  command = plan

  variables {
    pull_through_caches = { "docker.io" = { upstream = "registry-1.docker.io", prefix = "docker-hub" } }
  }

  expect_failures = [var.pull_through_caches]
}

run "one_image_is_too_few" {
  command = plan

  variables {
    keep_images = 1
  }

  expect_failures = [var.keep_images]
}
