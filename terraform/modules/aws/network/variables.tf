variable "name" {
  description = "Prefix of every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name has 3 to 24 lower-case letters, digits and hyphens, and starts with a letter: bucket and role names are made of it."
  }
}

variable "cidr" {
  description = "Network of the VPC. A /16 has room for the pods of 3 zones."
  type        = string
  default     = "10.64.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 20, false)
    error_message = "cidr is a network of /16 to /20, such as 10.64.0.0/16."
  }

  validation {
    # Two networks overlap if they are equal under the shorter of both masks.
    condition = alltrue([
      for other in concat(var.reserved_cidrs, [var.service_cidr]) : try(
        cidrsubnet(format("%s/%d", cidrhost(var.cidr, 0), min(split("/", var.cidr)[1], split("/", other)[1])), 0, 0) !=
        cidrsubnet(format("%s/%d", cidrhost(other, 0), min(split("/", var.cidr)[1], split("/", other)[1])), 0, 0),
      false)
    ])
    error_message = "cidr overlaps service_cidr or a network of reserved_cidrs. Choose a network that none of them contains."
  }
}

variable "service_cidr" {
  description = "Network of the cluster's Services, which the VPC must not overlap."
  type        = string
  default     = "172.20.0.0/16"

  validation {
    condition     = can(cidrhost(var.service_cidr, 0))
    error_message = "service_cidr is a network, such as 172.20.0.0/16."
  }
}

variable "reserved_cidrs" {
  description = "Networks that the VPC must not overlap: those of peered VPCs, VPNs and offices."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.reserved_cidrs : can(cidrhost(cidr, 0))])
    error_message = "reserved_cidrs has an entry that is no network, such as 10.0.0.0/8."
  }
}

variable "zones" {
  description = "Availability zones. RDS and EKS need two at least."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 4 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones has 2 to 4 different availability zones."
  }
}

variable "nat_gateway_per_zone" {
  description = "One NAT gateway per zone, so that the loss of a zone leaves the others their way out; one for all where false."
  type        = bool
  default     = false
}

variable "interface_endpoints" {
  description = "Services of AWS that pods and nodes reach inside the VPC, without the NAT gateway: ecr.api, ecr.dkr, sts, secretsmanager, logs, ec2, eks-auth."
  type        = set(string)
  default     = []
}

variable "flow_log_days" {
  description = "Days for which the flow logs of the VPC are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.flow_log_days)
    error_message = "flow_log_days is a retention that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the flow logs; CloudWatch must be allowed to use it."
  type        = string
}
