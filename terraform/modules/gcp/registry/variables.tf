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

variable "mirrors" {
  description = "Upstream registries whose images Artifact Registry keeps a copy of: the name that images have, and its address."
  type        = map(string)
  default = {
    "docker.io" = "https://registry-1.docker.io"
    "ghcr.io"   = "https://ghcr.io"
    "quay.io"   = "https://quay.io"
    "gcr.io"    = "https://gcr.io"
  }

  validation {
    condition     = alltrue([for address in values(var.mirrors) : startswith(address, "https://")])
    error_message = "An address of mirrors begins with https://."
  }
}

variable "kms_key" {
  description = "Key that encrypts the images. Artifact Registry's service agent must be allowed to use it."
  type        = string
}

variable "keep_images" {
  description = "Versions that each image keeps."
  type        = number
  default     = 20
}
