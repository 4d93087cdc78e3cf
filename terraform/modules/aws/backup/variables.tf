variable "name" {
  description = "Prefix of the bucket; the account's number follows, because names of buckets are unique in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name has 3 to 24 lower-case letters, digits and hyphens, and starts with a letter: bucket and role names are made of it."
  }
}

variable "accounts" {
  description = "Numbers of other accounts whose platforms save here and restore from here."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for account in var.accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "accounts has an entry that is no account's number (12 digits)."
  }
}

variable "noncurrent_days" {
  description = "Days for which replaced and removed backups can be restored: by whoever may read versions, which no part of the platform may."
  type        = number
  default     = 90

  validation {
    condition     = var.noncurrent_days >= 7
    error_message = "noncurrent_days is 7 or more: a backup that was removed by mistake should be noticed in that time."
  }
}

variable "force_destroy" {
  description = "Let destroy remove the bucket with backups in it."
  type        = bool
  default     = false
}
