# The policies are what this module is about: the provider itself renders them, and no call leaves the machine.
provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  name            = "mlp"
  cluster_name    = "mlp"
  vpc_id          = "vpc-0a"
  access          = yamldecode(file("../../../../helm/storage/access.yaml"))
  objects         = { bucket_arn = "arn:aws:s3:::objects", kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  backups         = { bucket_arn = "arn:aws:s3:::backups", kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  secret_arns     = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:ml/postgres-abc123"]
  secrets_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
}

run "each_part_opens_its_own_folders" {
  command = plan

  assert {
    condition = toset(flatten([
      for statement in jsondecode(data.aws_iam_policy_document.part["phaseflow-serving"].json).Statement : statement.Resource
      if contains(flatten([statement.Action]), "s3:GetObject")
    ])) == toset(["arn:aws:s3:::objects/store/predictions/*", "arn:aws:s3:::objects/store/feedback/*"])
    error_message = "the services read something else than their log"
  }

  assert {
    condition = !strcontains(join("", [
      for account, document in data.aws_iam_policy_document.part : document.json if account != "phaseflow-airflow-maintenance" && account != "phaseflow-prune"
      && account != "phaseflow-mlflow" && account != "phaseflow-monitor" && account != "pipeline-runner" && !startswith(account, "ml-pipeline")
    ]), "s3:DeleteObject")
    error_message = "a part that removes nothing may remove"
  }

  assert {
    condition     = !strcontains(data.aws_iam_policy_document.part["phaseflow-backup"].json, "s3:DeleteObject")
    error_message = "who saves may remove backups"
  }

  assert {
    condition     = strcontains(data.aws_iam_policy_document.part["ml-pipeline"].json, "arn:aws:s3:::objects/kfp/*")
    error_message = "the placeholder of the pipelines' folder is not filled"
  }

  assert {
    condition     = length(aws_iam_role.part["phaseflow-airflow-maintenance"].name) <= 64 && aws_iam_role.part["phaseflow-airflow-maintenance"].name == "mlp-airflow-maintenance"
    error_message = "a role has another name"
  }
}

run "without_backups_the_jobs_have_no_role_for_them" {
  command = plan

  variables {
    backups       = null
    load_balancer = false
  }

  assert {
    condition     = !contains(keys(aws_iam_role.part), "phaseflow-prune") && !contains(keys(aws_iam_role.controller), "aws-load-balancer-controller")
    error_message = "a role is left that nothing uses"
  }
}

run "a_part_that_is_missing_in_the_table_is_named" {
  command = plan

  variables {
    access = { serving = {} }
  }

  expect_failures = [var.access]
}

run "no_secret_is_refused" {
  command = plan

  variables {
    secret_arns = []
  }

  expect_failures = [var.secret_arns]
}
