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

variable "noncurrent_days" {
  description = "Days for which replaced and removed objects can be restored."
  type        = number
  default     = 30
}

variable "readers" {
  description = "Who reads the bucket, as IAM has members. The charts keep their objects in the cluster (ADR 63): the bucket is for sources that projects read."
  type        = set(string)
  default     = []
}

variable "kms_key" {
  description = "Key that encrypts the objects. Cloud Storage's service agent must be allowed to use it."
  type        = string
}

variable "force_destroy" {
  description = "Let destroy remove the bucket with objects in it."
  type        = bool
  default     = false
}
