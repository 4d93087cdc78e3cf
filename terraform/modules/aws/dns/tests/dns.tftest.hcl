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
  host = "ml.example.com"
  zone = "example.com"
}

run "an_existing_zone" {
  command = plan

  override_resource {
    target          = aws_acm_certificate.this
    override_during = plan
    values = {
      domain_validation_options = [{ domain_name = "ml.example.com", resource_record_name = "_x.ml.example.com", resource_record_type = "CNAME", resource_record_value = "y" }]
    }
  }

  assert {
    condition     = length(aws_route53_zone.this) == 0 && length(aws_route53_record.validation) == 1
    error_message = "a zone is made, or the certificate is not validated"
  }
}

run "a_host_outside_the_zone_is_refused" {
  command = plan

  variables {
    zone = "example.org"
  }

  expect_failures = [var.zone]
}

run "a_host_without_a_domain_is_refused" {
  command = plan

  variables {
    host = "ml"
    zone = "ml"
  }

  expect_failures = [var.host]
}
