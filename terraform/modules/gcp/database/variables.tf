variable "name" {
  description = "Prefix of every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name has 3 to 20 lower-case letters, digits and hyphens, and starts with a letter: names of accounts and buckets are made of it."
  }
}

variable "project" {
  description = "Project of Google Cloud."
  type        = string
}

variable "region" {
  description = "Region."
  type        = string
}

variable "network" {
  description = "The network, with a range for Cloud SQL (`private_services` of the module network)."
  type        = string
}

variable "engines" {
  description = "Databases by engine: `postgres` (Airflow and MLflow), and `mysql` where Kubeflow Pipelines uses a database outside the cluster."
  type = map(object({
    version  = string
    tier     = string
    disk_gib = optional(number, 20)
    regional = optional(bool, true)
    # Encrypted connections only. Kubeflow Pipelines 2.17 connects to MySQL without TLS (ADR 62).
    force_tls = optional(bool, true)
  }))

  validation {
    condition     = length(setsubtract(keys(var.engines), ["postgres", "mysql"])) == 0 && contains(keys(var.engines), "postgres")
    error_message = "engines has the keys postgres and, if Kubeflow Pipelines uses it, mysql."
  }

  validation {
    condition     = alltrue([for name, engine in var.engines : engine.version == (name == "postgres" ? "POSTGRES_17" : "MYSQL_8_4")])
    error_message = "engines.postgres.version is POSTGRES_17 (the image of the backups has pg_dump 17), and engines.mysql.version is MYSQL_8_4."
  }

  validation {
    condition     = try(var.engines.postgres.force_tls, true)
    error_message = "engines.postgres.force_tls is true: every client of the platform connects to Postgres with TLS."
  }
}

variable "admin_passwords" {
  description = "Password of each administrator, by engine. Ephemeral: it passes through Terraform in memory alone."
  type        = map(string)
  ephemeral   = true
}

variable "password_generation" {
  description = "Raise it to set the administrators' passwords anew."
  type        = number
  default     = 1
}

variable "kms_key" {
  description = "Key that encrypts the databases. Cloud SQL's service agent must be allowed to use it."
  type        = string
}

variable "deletion_protection" {
  description = "Refuse to delete the databases."
  type        = bool
  default     = true
}
