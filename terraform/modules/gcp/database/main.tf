# Cloud SQL inside the network, with TLS and point-in-time recovery. The administrators' passwords are write-only.

locals {
  flags = {
    postgres = { log_connections = "on", log_disconnections = "on", log_min_duration_statement = "1000" }
    # ML Metadata's client knows this plugin alone.
    mysql = { mysql_native_password = "on", slow_query_log = "on" }
  }
}

resource "google_sql_database_instance" "this" {
  for_each = var.engines

  project             = var.project
  name                = "${var.name}-${each.key}"
  region              = var.region
  database_version    = each.value.version
  encryption_key_name = var.kms_key
  deletion_protection = var.deletion_protection

  settings {
    edition                     = "ENTERPRISE"
    tier                        = each.value.tier
    availability_type           = each.value.regional ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = each.value.disk_gib
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection

    ip_configuration {
      ipv4_enabled    = false
      private_network = var.network
      ssl_mode        = each.value.force_tls ? "ENCRYPTED_ONLY" : "ALLOW_UNENCRYPTED_AND_ENCRYPTED"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "02:00"
      point_in_time_recovery_enabled = each.key == "postgres"
      binary_log_enabled             = each.key == "mysql"
      transaction_log_retention_days = 7
    }

    maintenance_window {
      day  = 7
      hour = 4
    }

    insights_config {
      query_insights_enabled = true
    }

    dynamic "database_flags" {
      for_each = local.flags[each.key]

      content {
        name  = database_flags.key
        value = database_flags.value
      }
    }
  }
}

resource "google_sql_user" "administrator" {
  for_each = var.engines

  project             = var.project
  name                = "administrator"
  instance            = google_sql_database_instance.this[each.key].name
  password_wo         = var.admin_passwords[each.key]
  password_wo_version = var.password_generation
}
