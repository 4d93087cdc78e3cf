variable "name" {
  description = "Name of the environment, and prefix of every name in it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name has 3 to 24 lower-case letters, digits and hyphens, and starts with a letter: bucket and role names are made of it."
  }
}

variable "charts" {
  description = "Folder of the charts (`helm/` of the repository): access of each part, images and profiles are read there."
  type        = string

  validation {
    condition     = fileexists("${var.charts}/storage/access.yaml")
    error_message = "charts is the folder helm/ of the repository, which has storage/access.yaml."
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

variable "cidr" {
  description = "Network of the VPC."
  type        = string
  default     = "10.64.0.0/16"
}

variable "reserved_cidrs" {
  description = "Networks that the VPC must not overlap."
  type        = list(string)
  default     = []
}

variable "zone_count" {
  description = "Availability zones."
  type        = number
  default     = 2

  validation {
    condition     = var.zone_count >= 2 && var.zone_count <= 4
    error_message = "zone_count is 2 to 4."
  }
}

variable "nat_gateway_per_zone" {
  description = "One NAT gateway per zone."
  type        = bool
  default     = false
}

variable "interface_endpoints" {
  description = "Services of AWS inside the VPC."
  type        = set(string)
  default     = []
}

variable "kubernetes_version" {
  description = "Version of Kubernetes."
  type        = string
  default     = "1.34"
}

variable "node_groups" {
  description = "Groups of nodes, as the module cluster has them. Pods of tasks and runs are scheduled on the group `spot`, if there is one."
  type        = any
}

variable "public_access_cidrs" {
  description = "Networks that reach the Kubernetes API from the internet; empty for a private endpoint alone."
  type        = list(string)
  default     = []
}

variable "admins" {
  description = "IAM principals that administer the cluster."
  type        = set(string)
}

variable "addon_versions" {
  description = "Versions of add-ons by name; the newest where none is named."
  type        = map(string)
  default     = {}
}

variable "engines" {
  description = "Databases, as the module database has them."
  type        = any
}

variable "backup_days" {
  description = "Days for which RDS can restore to any second."
  type        = number
  default     = 14
}

variable "database_authorities" {
  description = "Certificates of RDS' authorities in the region, by which Postgres is verified; empty for encrypted connections without that. `bin/cloud` downloads them."
  type        = string
  default     = ""
}

variable "dns" {
  description = "Host, zone and whether the zone is created; null for an environment that is reached by `kubectl port-forward`."
  type = object({
    host                 = string
    zone                 = string
    create_zone          = optional(bool, false)
    wait_for_certificate = optional(bool, true)
    web_acl_arn          = optional(string, "")
  })
  default = null
}

variable "backup" {
  description = "Bucket of the backups and its key (outputs of envs/aws/backup); null for none."
  type = object({
    bucket      = string
    kms_key_arn = string
  })
  default = null
}

variable "pull_through_caches" {
  description = "Upstream registries whose images ECR copies, as the module registry has them."
  type        = any
  default = {
    "quay.io" = { upstream = "quay.io", prefix = "quay" }
  }
}

variable "image_tag" {
  description = "Tag of phaseflow's own images (`bin/image-tag`)."
  type        = string
  default     = ""
}

variable "budget" {
  description = "Monthly limit in US dollars, and who gets a mail; null for none."
  type = object({
    monthly_limit_usd = number
    emails            = list(string)
  })
  default = null
}

variable "generation" {
  description = "Raise a secret's number to generate its passwords anew: `{ postgres = 2 }`."
  type        = map(number)
  default     = {}
}

variable "protected" {
  description = "Refuse to delete databases, buckets and repositories with content. Destroy needs an apply with false before it."
  type        = bool
  default     = true
}
