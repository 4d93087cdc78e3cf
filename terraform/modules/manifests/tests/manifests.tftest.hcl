variables {
  secret_provider = { aws = { service = "SecretsManager", region = "eu-central-1" } }
  secrets         = { postgres = "ml/postgres", airflow = "ml/airflow", personal = "ml/personal" }
  databases       = { postgres = { host = "db.example.com", port = 5432, secret = "arn" } }
  images          = { postgres = "docker.io/library/postgres:17.11@sha256:abc" }
  storage_class   = { name = "gp3", provisioner = "ebs.csi.aws.com", parameters = { type = "gp3" } }
}

run "each_secret_and_one_job" {
  command = plan

  assert {
    condition     = length(local.external_secrets) == 3 && length(local.jobs) == 1 && output.secret_names.postgres == "phaseflow-postgres"
    error_message = "a Secret or the Job is missing"
  }

  assert {
    condition     = [for document in split("---\n", output.yaml) : yamldecode(document).kind] == ["Namespace", "StorageClass", "SecretStore", "ExternalSecret", "ExternalSecret", "ExternalSecret", "ExternalSecret", "ConfigMap", "Job"]
    error_message = "the documents are others, or in another order"
  }
}

run "a_database_without_its_secret_is_refused" {
  command = plan

  variables {
    databases = { mysql = { host = "db.example.com", port = 3306, secret = "arn" } }
  }

  expect_failures = [var.databases]
}

run "airflow_s_secret_is_needed" {
  command = plan

  variables {
    secrets   = { personal = "ml/personal" }
    databases = {}
  }

  expect_failures = [var.secrets]
}
