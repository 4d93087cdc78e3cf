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
  zones       = ["eu-central-1a", "eu-central-1b"]
  kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "networks_do_not_overlap" {
  command = plan

  assert {
    condition     = length(distinct(concat(values(local.private), values(local.public), values(local.database)))) == 6
    error_message = "two subnets have the same network"
  }

  assert {
    condition     = local.private["eu-central-1b"] == "10.64.32.0/19" && local.public["eu-central-1a"] == "10.64.192.0/24"
    error_message = "the networks are other than documented"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1
    error_message = "one NAT gateway should serve both zones"
  }
}

run "a_nat_gateway_per_zone" {
  command = plan

  variables {
    nat_gateway_per_zone = true
    interface_endpoints  = ["sts"]
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 2 && length(aws_vpc_endpoint.interface) == 1
    error_message = "each zone should have its NAT gateway, and STS an endpoint"
  }
}

run "a_cidr_that_overlaps_an_office_is_refused" {
  command = plan

  variables {
    reserved_cidrs = ["10.0.0.0/8"]
  }

  expect_failures = [var.cidr]
}

run "a_cidr_that_overlaps_the_services_is_refused" {
  command = plan

  variables {
    cidr = "172.20.0.0/16"
  }

  expect_failures = [var.cidr]
}

run "a_neighbour_is_no_overlap" {
  command = plan

  variables {
    reserved_cidrs = ["10.65.0.0/16", "192.168.0.0/16"]
  }
}

run "one_zone_is_refused" {
  command = plan

  variables {
    zones = ["eu-central-1a"]
  }

  expect_failures = [var.zones]
}

run "a_name_that_is_too_long_is_refused" {
  command = plan

  variables {
    name = "a-name-of-more-than-twenty-four-letters"
  }

  expect_failures = [var.name]
}
