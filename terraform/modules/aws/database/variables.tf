variable "name" {
  description = "Prefix of every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name has 3 to 24 lower-case letters, digits and hyphens, and starts with a letter: bucket and role names are made of it."
  }
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the databases, in two zones at least."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids has subnets of two zones at least: RDS asks for them also for one instance."
  }
}

variable "client_security_group_id" {
  description = "Security group that may connect: the cluster's."
  type        = string
}

variable "engines" {
  description = <<-TEXT
    Databases by engine: `postgres` (Airflow and MLflow), and `mysql` where Kubeflow Pipelines uses a database outside the cluster. `storage_gib` grows by itself up to
    `max_storage_gib`.
  TEXT
  type = map(object({
    version         = string
    instance_class  = string
    storage_gib     = optional(number, 20)
    max_storage_gib = optional(number, 200)
    multi_az        = optional(bool, true)
    force_tls       = optional(bool, true)
  }))

  validation {
    condition     = length(setsubtract(keys(var.engines), ["postgres", "mysql"])) == 0 && contains(keys(var.engines), "postgres")
    error_message = "engines has the keys postgres and, if Kubeflow Pipelines uses it, mysql."
  }

  validation {
    condition     = alltrue([for name, engine in var.engines : startswith(engine.version, name == "postgres" ? "17" : "8.4")])
    error_message = "engines.postgres.version is 17 (the image of the backups has pg_dump 17), and engines.mysql.version is 8.4."
  }

  validation {
    condition     = alltrue([for engine in var.engines : startswith(engine.instance_class, "db.") && engine.max_storage_gib > engine.storage_gib])
    error_message = "An instance_class of engines begins with db., and max_storage_gib is more than storage_gib."
  }

  validation {
    condition     = try(var.engines.postgres.force_tls, true)
    error_message = "engines.postgres.force_tls is true: every client of the platform connects to Postgres with TLS."
  }
}

variable "backup_days" {
  description = "Days for which RDS can restore to any second."
  type        = number
  default     = 14

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "backup_days is 1 to 35."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the databases. While it is true, destroy ends with an error."
  type        = bool
  default     = true
}

variable "final_snapshot" {
  description = "Keep a last snapshot when a database is deleted."
  type        = bool
  default     = true
}

variable "enhanced_monitoring_seconds" {
  description = "Seconds between two measurements of the operating system; 0 for none."
  type        = number
  default     = 60

  validation {
    condition     = contains([0, 1, 5, 10, 15, 30, 60], var.enhanced_monitoring_seconds)
    error_message = "enhanced_monitoring_seconds is 0, 1, 5, 10, 15, 30 or 60."
  }
}

variable "apply_immediately" {
  description = "Change the databases at once instead of in the maintenance window."
  type        = bool
  default     = false
}

variable "kms_key_arn" {
  description = "Key that encrypts storage, snapshots, insights and the managed passwords."
  type        = string
}
