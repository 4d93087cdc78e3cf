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

variable "host" {
  description = "Host name of the platform, such as ml.example.com."
  type        = string

  validation {
    condition     = length(var.host) <= 64 && can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.host))
    error_message = "host is a full host name of at most 64 characters, such as ml.example.com."
  }
}

variable "zone" {
  description = "Domain of the managed zone, such as example.com."
  type        = string

  validation {
    condition     = var.host == var.zone || endswith(var.host, ".${var.zone}")
    error_message = "zone is the host or a domain above it: host ml.example.com has the zone ml.example.com or example.com."
  }
}

variable "zone_name" {
  description = "Name of the managed zone; one is created where empty."
  type        = string
  default     = ""
}
