variables {
  profile = file("../../../helm/platform/values-small.yaml")
  images  = { registry = "123456789012.dkr.ecr.eu-central-1.amazonaws.com", repository = "ml", tag = "src-1", mirrors = { "quay.io" = "mirror/quay" } }
}

run "the_profile_stays_under_the_values" {
  command = plan

  assert {
    condition     = yamldecode(output.yaml).global.projects == ["titanic", "house_prices"] && yamldecode(output.yaml).airflow.parallelism == 3
    error_message = "the profile is lost"
  }

  assert {
    condition     = yamldecode(output.yaml).proxy.type == "ClusterIP" && !yamldecode(output.yaml).proxy.allowPlainHTTP
    error_message = "the proxy's NodePort speaks plain HTTP in the cloud"
  }

  assert {
    condition     = yamldecode(output.yaml).storage.enabled
    error_message = "there is no store"
  }
}

run "production_with_everything_outside" {
  command = plan

  variables {
    profile       = file("../../../helm/platform/values-production.yaml")
    host          = "ml.example.com"
    store         = { bucket = "objects", region = "eu-central-1" }
    backup_target = "s3://backups/ml"
    postgres = {
      host                 = "db.example.com"
      secrets              = { airflow = "airflow-role", mlflow = "mlflow-role", backup = "backup-role" }
      administrator_secret = "administrator"
      ssl_mode             = "verify-full"
      authorities_secret   = "authorities"
    }
    mysql     = { host = "mysql.example.com", secret = "phaseflow-mysql" }
    entrance  = { kind = "ingress", class = "alb", trusted_proxies = ["10.64.0.0/16"] }
    batch_pod = { nodeSelector = { "phaseflow.io/pool" = "spot" } }
  }

  assert {
    condition     = !yamldecode(output.yaml).storage.enabled && !yamldecode(output.yaml).gateway.enabled && yamldecode(output.yaml).ingress.tlsByAnnotation
    error_message = "the chart's store or its Gateway is on, or the Ingress has no TLS"
  }

  assert {
    condition     = yamldecode(output.yaml).global.postgres.sslMode == "verify-full" && yamldecode(output.yaml).global.postgres.bootstrap == { enabled = true, existingSecret = "administrator" }
    error_message = "Postgres' certificate is not verified, or nobody makes the databases"
  }

  assert {
    condition     = yamldecode(output.yaml).airflow.executor == "KubernetesExecutor" && yamldecode(output.yaml).airflow.tasks.pod.nodeSelector["phaseflow.io/pool"] == "spot"
    error_message = "the profile is lost, or tasks do not run on the spot group"
  }
}

run "a_certificate_is_verified_by_its_authorities" {
  command = plan

  variables {
    postgres = {
      host                 = "db.example.com"
      secrets              = { airflow = "airflow-role", mlflow = "mlflow-role", backup = "backup-role" }
      administrator_secret = "administrator"
      ssl_mode             = "verify-full"
    }
  }

  expect_failures = [var.postgres]
}

run "the_backup_s_role_has_a_secret" {
  command = plan

  variables {
    postgres = {
      host                 = "db.example.com"
      secrets              = { airflow = "airflow-role", mlflow = "mlflow-role" }
      administrator_secret = "administrator"
    }
  }

  expect_failures = [var.postgres]
}

run "a_placeholder_that_is_left_is_named" {
  command = plan

  variables {
    profile       = file("../../../helm/platform/values-production.yaml")
    backup_target = ""
  }

  expect_failures = [output.yaml]
}

run "a_host_needs_an_entrance" {
  command = plan

  variables {
    host = "ml.example.com"
  }

  expect_failures = [var.entrance]
}

run "mysql_without_kubeflow_pipelines_is_refused" {
  command = plan

  variables {
    mysql = { host = "mysql.example.com", secret = "phaseflow-mysql" }
  }

  expect_failures = [output.yaml]
}

run "a_target_without_a_prefix_is_refused" {
  command = plan

  variables {
    backup_target = "s3://backups"
  }

  expect_failures = [var.backup_target]
}
