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

variable "secrets" {
  description = "Passwords of each secret, by their keys. Ephemeral: they pass through Terraform in memory alone."
  type        = map(map(string))
  ephemeral   = true
}

variable "names" {
  description = "Names of these secrets: what is ephemeral can't say which resources there are."
  type        = set(string)
}

variable "generation" {
  description = "Raise a secret's number to write its passwords anew. Airflow's Fernet key and the personal key must not change while data depends on them."
  type        = map(number)
  default     = {}
}
