variable "name" {
  description = "Name of the environment, and prefix of every name in it."
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

variable "location" {
  description = "Region of a cluster whose control plane is in three zones, or a zone."
  type        = string
}

variable "charts" {
  description = "Folder of the charts (`helm/` of the repository): images and profiles are read there."
  type        = string

  validation {
    condition     = fileexists("${var.charts}/platform/values.yaml")
    error_message = "charts is the folder helm/ of the repository, which has platform/values.yaml."
  }
}

variable "profile" {
  description = "Profile of the chart that the values go over: small or production."
  type        = string

  validation {
    condition     = contains(["small", "production"], var.profile)
    error_message = "profile is small or production."
  }
}

variable "passwords" {
  description = "Passwords of each secret by their keys, as `bin/cloud` generates them. Only those of a new secret, or of a raised `generation`, are used."
  type        = map(map(string))
  ephemeral   = true
}

variable "generation" {
  description = "Raise it to write every password anew. Airflow's Fernet key and the personal key change too: data that depends on them can't be read then."
  type        = number
  default     = 1
}

variable "reserved_cidrs" {
  description = "Networks that the platform must not overlap."
  type        = list(string)
  default     = []
}

variable "authorized_cidrs" {
  description = "Networks that reach the Kubernetes API from the internet by name; empty for a private endpoint alone."
  type        = map(string)
  default     = {}
}

variable "node_pools" {
  description = "Pools of nodes, as the module cluster has them. Pods of tasks and runs are scheduled on the pool `spot`, if there is one."
  type        = any
}

variable "engines" {
  description = "Databases, as the module database has them."
  type        = any
}

variable "dns" {
  description = "Host and zone of the public address; null for an environment that is reached by `kubectl port-forward`."
  type = object({
    host      = string
    zone      = string
    zone_name = optional(string, "")
  })
  default = null
}

variable "image_tag" {
  description = "Tag of phaseflow's own images (`bin/image-tag`)."
  type        = string
  default     = ""
}

variable "protected" {
  description = "Refuse to delete cluster, databases and bucket. Destroy needs an apply with false before it."
  type        = bool
  default     = true
}
