output "yaml" {
  description = "The manifests, for `kubectl apply --filename`."
  value       = join("---\n", local.documents)
}

output "secret_names" {
  description = "Secret of the release by the platform's name: airflow, personal, and mysql."
  value       = { for name in keys(var.secrets) : name => "phaseflow-${name}" if name != "postgres" }
}

output "postgres" {
  description = "What the chart needs of Postgres: host and port, a Secret for each role, the administrator's, and the one with the authorities' certificates; null without Postgres."
  value = one([
    for engine, database in var.databases : {
      host                 = database.host
      port                 = database.port
      secrets              = { for role in local.roles : role => "phaseflow-postgres-${role}" }
      administrator_secret = "phaseflow-postgres-administrator"
      authorities_secret   = database.authorities == "" ? "" : "phaseflow-postgres-authorities"
    } if engine == "postgres"
  ])
}
