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

variable "nodes_cidr" {
  description = "Network of the nodes."
  type        = string
  default     = "10.64.0.0/20"

  validation {
    condition     = can(cidrhost(var.nodes_cidr, 0))
    error_message = "nodes_cidr is a network, such as 10.64.0.0/20."
  }
}

variable "pods_cidr" {
  description = "Network of the pods."
  type        = string
  default     = "10.68.0.0/14"

  validation {
    condition     = can(cidrhost(var.pods_cidr, 0)) && try(tonumber(split("/", var.pods_cidr)[1]) <= 19, false)
    error_message = "pods_cidr is a network of /19 or larger: each node takes a /24."
  }
}

variable "services_cidr" {
  description = "Network of the Services."
  type        = string
  default     = "10.72.0.0/20"

  validation {
    # Two networks overlap if they are equal under the shorter of both masks.
    condition = alltrue([
      for pair in concat(
        setproduct([var.nodes_cidr, var.pods_cidr, var.services_cidr], concat(var.reserved_cidrs, [var.control_plane_cidr])),
        [[var.nodes_cidr, var.pods_cidr], [var.nodes_cidr, var.services_cidr], [var.pods_cidr, var.services_cidr]],
        ) : try(
        cidrsubnet(format("%s/%d", cidrhost(pair[0], 0), min(split("/", pair[0])[1], split("/", pair[1])[1])), 0, 0) !=
        cidrsubnet(format("%s/%d", cidrhost(pair[1], 0), min(split("/", pair[0])[1], split("/", pair[1])[1])), 0, 0),
      false)
    ])
    error_message = "Networks of nodes, pods, Services and control plane overlap each other, or one of reserved_cidrs."
  }
}

variable "control_plane_cidr" {
  description = "Network of the control plane, a /28."
  type        = string
  default     = "172.16.0.0/28"
}

variable "reserved_cidrs" {
  description = "Networks that these must not overlap: those of peered networks, VPNs and offices."
  type        = list(string)
  default     = []
}
