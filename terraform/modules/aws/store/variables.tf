variable "name" {
  description = "Prefix of the bucket; the account's number follows, because names of buckets are unique in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name has 3 to 24 lower-case letters, digits and hyphens, and starts with a letter: bucket and role names are made of it."
  }
}

variable "expire" {
  description = "Days after which objects below a prefix are removed. The platform removes its own data by its retention rules; these are logs of tasks and of pipeline runs."
  type        = map(number)
  default     = { "airflow-logs/" = 90, "kfp/logs/" = 90 }

  validation {
    condition     = alltrue([for prefix, days in var.expire : endswith(prefix, "/") && days >= 1])
    error_message = "A prefix of expire ends with /, and its days are 1 or more."
  }

  validation {
    condition     = alltrue([for prefix in keys(var.expire) : !startswith(prefix, "store/") && !startswith(prefix, "mlflow/")])
    error_message = "expire names store/ or mlflow/: the platform's own retention rules remove data and models there, with what refers to them."
  }
}

variable "noncurrent_days" {
  description = "Days for which replaced and removed objects can be restored."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "noncurrent_days is 1 or more."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the objects."
  type        = string
}

variable "force_destroy" {
  description = "Let destroy remove the bucket with objects in it."
  type        = bool
  default     = false
}
