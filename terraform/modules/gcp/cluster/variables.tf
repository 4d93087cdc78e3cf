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

variable "location" {
  description = "Region of a cluster whose control plane is in three zones, or a zone for one that costs less to try."
  type        = string
}

variable "release_channel" {
  description = "Channel by which GKE upgrades the cluster: RAPID, REGULAR, STABLE or EXTENDED."
  type        = string
  default     = "REGULAR"

  validation {
    condition     = contains(["RAPID", "REGULAR", "STABLE", "EXTENDED"], var.release_channel)
    error_message = "release_channel is RAPID, REGULAR, STABLE or EXTENDED."
  }
}

variable "network" {
  description = "The network."
  type        = string
}

variable "subnetwork" {
  description = "The subnet, with the ranges `pods` and `services`."
  type        = string
}

variable "control_plane_cidr" {
  description = "Network of the control plane, a /28."
  type        = string
  default     = "172.16.0.0/28"
}

variable "authorized_cidrs" {
  description = "Networks that reach the Kubernetes API from the internet by name; empty for a private endpoint alone."
  type        = map(string)
  default     = {}

  validation {
    condition     = !contains(values(var.authorized_cidrs), "0.0.0.0/0")
    error_message = "authorized_cidrs opens the Kubernetes API to the internet. Name your own networks, such as { office = \"203.0.113.0/24\" }."
  }
}

variable "node_pools" {
  description = "Pools of nodes by name. `spot` costs less and may be taken away. `gpu` is the type of its accelerators, such as nvidia-l4."
  type = map(object({
    machine_type = string
    min          = optional(number, 0)
    max          = number
    spot         = optional(bool, false)
    gpu          = optional(string, "")
    disk_gib     = optional(number, 50)
    taints       = optional(map(string), {})
  }))

  validation {
    condition     = anytrue([for pool in var.node_pools : pool.min >= 1 && pool.gpu == "" && length(pool.taints) == 0])
    error_message = "node_pools needs one pool with min >= 1, without GPU and taints: DNS and the controllers run there."
  }

  validation {
    condition     = alltrue([for pool in var.node_pools : pool.min <= pool.max && pool.max >= 1])
    error_message = "A pool of node_pools does not have min <= max with max >= 1."
  }
}

variable "kms_key" {
  description = "Key that encrypts the Secrets of Kubernetes and the nodes' disks."
  type        = string
}

variable "backup_schedule" {
  description = "When Backup for GKE saves the release's volumes and Secrets, as cron has it; empty for never."
  type        = string
  default     = "17 3 * * *"
}

variable "backup_days" {
  description = "Days for which these backups are kept."
  type        = number
  default     = 30
}

variable "namespace" {
  description = "Namespace of the release, which is saved."
  type        = string
  default     = "phaseflow"
}

variable "deletion_protection" {
  description = "Refuse to delete the cluster."
  type        = bool
  default     = true
}
