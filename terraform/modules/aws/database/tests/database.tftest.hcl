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
  name                     = "ml-test"
  vpc_id                   = "vpc-0a"
  subnet_ids               = ["subnet-0a", "subnet-0b"]
  client_security_group_id = "sg-0a"
  kms_key_arn              = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  engines = {
    postgres = { version = "17", instance_class = "db.t4g.small" }
    mysql    = { version = "8.4", instance_class = "db.t4g.small", multi_az = false }
  }
}

run "both_engines_are_closed_and_encrypted" {
  command = plan

  assert {
    condition     = alltrue([for instance in aws_db_instance.this : instance.storage_encrypted && !instance.publicly_accessible && instance.manage_master_user_password && instance.deletion_protection])
    error_message = "a database is open, not encrypted, not protected, or has a password of ours"
  }

  assert {
    condition     = one([for parameter in aws_db_parameter_group.this["postgres"].parameter : parameter.value if parameter.name == "rds.force_ssl"]) == "1"
    error_message = "Postgres takes connections without TLS"
  }

  assert {
    condition     = one([for parameter in aws_db_parameter_group.this["mysql"].parameter : parameter.value if parameter.name == "require_secure_transport"]) == "ON"
    error_message = "MySQL takes connections without TLS"
  }

  assert {
    condition     = aws_db_instance.this["postgres"].multi_az && !aws_db_instance.this["mysql"].multi_az
    error_message = "multi_az is not each engine's own"
  }
}

run "postgres_without_tls_is_refused" {
  command = plan

  variables {
    engines = { postgres = { version = "17", instance_class = "db.t4g.small", force_tls = false } }
  }

  expect_failures = [var.engines]
}

run "another_version_of_postgres_is_refused" {
  command = plan

  variables {
    engines = { postgres = { version = "16", instance_class = "db.t4g.small" } }
  }

  expect_failures = [var.engines]
}

run "one_subnet_is_refused" {
  command = plan

  variables {
    subnet_ids = ["subnet-0a"]
  }

  expect_failures = [var.subnet_ids]
}

run "forty_days_are_refused" {
  command = plan

  variables {
    backup_days = 40
  }

  expect_failures = [var.backup_days]
}
