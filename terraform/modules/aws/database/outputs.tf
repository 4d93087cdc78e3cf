output "endpoints" {
  description = "Host and port of each database, by engine."
  value       = { for engine, instance in aws_db_instance.this : engine => { host = instance.address, port = instance.port } }
}

output "master_secret_arns" {
  description = "Secret with each administrator's user and password, by engine. RDS makes and rotates it."
  value       = { for engine, instance in aws_db_instance.this : engine => instance.master_user_secret[0].secret_arn }
}

output "identifiers" {
  description = "Identifier of each instance, by engine."
  value       = { for engine, instance in aws_db_instance.this : engine => instance.identifier }
}

output "final_snapshots" {
  description = "Snapshots that destroy leaves on purpose."
  value       = [for instance in aws_db_instance.this : instance.final_snapshot_identifier if instance.final_snapshot_identifier != null]
}
