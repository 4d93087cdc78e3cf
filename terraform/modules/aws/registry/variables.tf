variable "name" {
  description = "Folder of the repositories: NAME/airflow, NAME/serving, …"
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]+([._-][a-z0-9]+)*$", var.name))
    error_message = "name has lower-case letters, digits, and single dots, hyphens or underscores between them."
  }
}

variable "images" {
  description = "phaseflow's own images (`k8s/images.hcl`), one repository each."
  type        = set(string)
  default     = ["airflow", "tabular", "registry", "serving", "monitor", "portal", "torch", "language"]
}

variable "keep_images" {
  description = "Images that each repository keeps; older ones are removed."
  type        = number
  default     = 20

  validation {
    condition     = var.keep_images >= 2
    error_message = "keep_images is 2 or more: `helm rollback` needs the previous image."
  }
}

variable "pull_through_caches" {
  description = <<-TEXT
    Upstream registries whose images ECR keeps a copy of, by the name that images have. Docker Hub and GitHub ask for an account: `credential_arn` is a
    secret `ecr-pullthroughcache/…` with the keys username and accessToken.
  TEXT
  type = map(object({
    upstream       = string
    prefix         = string
    credential_arn = optional(string)
  }))
  default = {
    "quay.io" = { upstream = "quay.io", prefix = "quay" }
  }

  validation {
    condition = alltrue([
      for name, cache in var.pull_through_caches :
      contains(["docker.io", "ghcr.io"], name) ? startswith(coalesce(cache.credential_arn, "none"), "arn:") : true
    ])
    error_message = "The cache of docker.io or ghcr.io has no credential_arn. ECR pulls from both with an account only."
  }

  validation {
    condition     = alltrue([for cache in var.pull_through_caches : can(regex("^[a-z0-9][a-z0-9._-]{1,29}$", cache.prefix))])
    error_message = "The prefix of a cache has 2 to 30 lower-case letters, digits, dots, hyphens and underscores."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the images."
  type        = string
}

variable "force_delete" {
  description = "Let destroy remove repositories with images in them."
  type        = bool
  default     = false
}
