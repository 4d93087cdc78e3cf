variables {
  secret_provider = { aws = { service = "SecretsManager", region = "eu-central-1" } }
  secrets         = { postgres = "ml/postgres", airflow = "ml/airflow", personal = "ml/personal" }
  databases       = { postgres = { host = "db.example.com", port = 5432, secret = "arn", authorities = "-----BEGIN CERTIFICATE-----\nMII\n" } }
  storage_class   = { name = "gp3", provisioner = "ebs.csi.aws.com", parameters = { type = "gp3" } }
}

run "a_secret_for_each_role_the_administrator_s_and_the_authorities" {
  command = plan

  assert {
    condition = [for document in split("\n---\n", output.yaml) : "${yamldecode(document).kind} ${yamldecode(document).metadata.name}"] == [
      "Namespace phaseflow", "StorageClass gp3", "SecretStore phaseflow",
      "ExternalSecret phaseflow-airflow", "ExternalSecret phaseflow-personal",
      "ExternalSecret phaseflow-postgres-airflow", "ExternalSecret phaseflow-postgres-backup", "ExternalSecret phaseflow-postgres-mlflow",
      "ExternalSecret phaseflow-postgres-administrator", "Secret phaseflow-postgres-authorities",
    ]
    error_message = "the documents are others, or in another order"
  }

  assert {
    condition     = one([for object in local.external_secrets : object.spec.target.template.data.pgpass if object.metadata.name == "phaseflow-postgres-mlflow"]) == "*:*:*:mlflow:{{ .mlflow }}\n"
    error_message = "a role's Secret has another role's password"
  }

  assert {
    condition     = output.postgres.secrets.backup == "phaseflow-postgres-backup" && output.postgres.authorities_secret == "phaseflow-postgres-authorities"
    error_message = "the chart is not told of the Secrets"
  }
}

run "mysql_has_a_job" {
  command = plan

  variables {
    secrets     = { mysql = "ml/mysql", airflow = "ml/airflow", personal = "ml/personal" }
    databases   = { mysql = { host = "db.example.com", port = 3306, secret = "arn" } }
    mysql_image = "docker.io/library/mysql:8.4@sha256:abc"
  }

  assert {
    condition     = length(local.jobs) == 1 && length(local.config_maps) == 1 && length(local.authorities) == 0 && output.postgres == null
    error_message = "the Job is missing, or more than that is there"
  }
}

run "mysql_needs_the_image_of_its_client" {
  command = plan

  variables {
    secrets   = { mysql = "ml/mysql", airflow = "ml/airflow", personal = "ml/personal" }
    databases = { mysql = { host = "db.example.com", port = 3306, secret = "arn" } }
  }

  expect_failures = [var.mysql_image]
}

run "a_database_without_its_secret_is_refused" {
  command = plan

  variables {
    databases   = { mysql = { host = "db.example.com", port = 3306, secret = "arn" } }
    mysql_image = "docker.io/library/mysql:8.4@sha256:abc"
  }

  expect_failures = [var.databases]
}

run "authorities_that_are_no_certificates_are_refused" {
  command = plan

  variables {
    databases = { postgres = { host = "db.example.com", port = 5432, secret = "arn", authorities = "bundle.pem" } }
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
