variable "name" {
  description = "Name of the cluster, and prefix of its roles."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name has 3 to 24 lower-case letters, digits and hyphens, and starts with a letter: bucket and role names are made of it."
  }
}

variable "kubernetes_version" {
  description = "Version of Kubernetes. EKS upgrades one minor version at a time."
  type        = string
  default     = "1.34"

  validation {
    condition     = can(regex("^1\\.(3[0-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version is 1.30 or newer, without a patch number: the charts need 1.30."
  }
}

variable "upgrade_support" {
  description = "STANDARD upgrades the cluster when its version leaves standard support; EXTENDED keeps it for an additional fee per hour."
  type        = string
  default     = "STANDARD"

  validation {
    condition     = contains(["STANDARD", "EXTENDED"], var.upgrade_support)
    error_message = "upgrade_support is STANDARD or EXTENDED."
  }
}

variable "subnet_ids" {
  description = "Private subnets of control plane and nodes, in two zones at least."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids has subnets of two zones at least."
  }
}

variable "service_cidr" {
  description = "Network of the Services."
  type        = string
  default     = "172.20.0.0/16"
}

variable "public_access_cidrs" {
  description = "Networks that reach the Kubernetes API from the internet; empty for none, so that it is reached inside the VPC only."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.public_access_cidrs, "0.0.0.0/0")
    error_message = "public_access_cidrs opens the Kubernetes API to the internet. Name your own networks, such as [\"203.0.113.7/32\"]."
  }
}

variable "admins" {
  description = "IAM principals (ARNs) that administer the cluster. Whoever applies must be among them, to install anything."
  type        = set(string)

  validation {
    condition     = alltrue([for arn in var.admins : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "admins has an entry that is no ARN of an IAM role or user. Of an assumed role name the role itself: arn:aws:iam::123456789012:role/NAME."
  }
}

variable "node_groups" {
  description = <<-TEXT
    Groups of nodes by name. `spot` costs less and may be taken away. A group with `gpu` has the NVIDIA image and the taint nvidia.com/gpu, and needs instance types with a
    GPU. `labels` and `taints` (key to value, effect NoSchedule) steer pods.
  TEXT
  type = map(object({
    instance_types = list(string)
    min            = optional(number, 0)
    max            = number
    desired        = optional(number)
    spot           = optional(bool, false)
    gpu            = optional(bool, false)
    disk_gib       = optional(number, 50)
    labels         = optional(map(string), {})
    taints         = optional(map(string), {})
  }))

  validation {
    condition     = anytrue([for group in var.node_groups : group.min >= 1 && !group.gpu && length(group.taints) == 0])
    error_message = "node_groups needs one group with min >= 1, without GPU and taints: DNS and the controllers run there."
  }

  validation {
    condition     = alltrue([for group in var.node_groups : group.min <= group.max && group.min <= coalesce(group.desired, group.min) && coalesce(group.desired, group.min) <= group.max && group.max >= 1])
    error_message = "A group of node_groups does not have min <= desired <= max with max >= 1."
  }

  validation {
    condition     = alltrue([for name, group in var.node_groups : can(regex("^[a-z][a-z0-9-]{0,19}$", name))])
    error_message = "A name in node_groups has at most 20 lower-case letters, digits and hyphens."
  }

  validation {
    condition     = alltrue([for group in var.node_groups : length(group.instance_types) >= (group.spot ? 2 : 1)])
    error_message = "A group of node_groups has no instance type, or one alone with spot: name two or more, so that the loss of one kind leaves another."
  }
}

variable "addon_versions" {
  description = "Versions of add-ons by name; the newest for the cluster's version where none is named."
  type        = map(string)
  default     = {}
}

variable "node_policies" {
  description = "Further policies of the nodes' role by name, in JSON: the registry's for pull-through caches."
  type        = map(string)
  default     = {}
}

variable "external_dns" {
  description = "Install external-dns, which writes the record of the load balancer into the hosted zone."
  type        = bool
  default     = false
}

variable "dns_zone_arn" {
  description = "Hosted zone that external-dns may write to."
  type        = string
  default     = null

  validation {
    condition     = !var.external_dns || var.dns_zone_arn != null
    error_message = "external_dns is true, and dns_zone_arn names no zone that it may write to."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the Secrets of Kubernetes, the nodes' disks, the volumes and the logs."
  type        = string
}

variable "log_days" {
  description = "Days for which the control plane's logs are kept."
  type        = number
  default     = 365
}
