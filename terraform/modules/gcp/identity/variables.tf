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

variable "workload_pool" {
  description = "Pool of the identities of the cluster's ServiceAccounts."
  type        = string
}

variable "secrets" {
  description = "Secrets that External Secrets reads, by the platform's names."
  type        = map(string)
}

variable "namespace" {
  description = "Namespace of the release."
  type        = string
  default     = "phaseflow"
}
