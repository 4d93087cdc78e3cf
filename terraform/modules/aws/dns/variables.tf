variable "host" {
  description = "Host name of the platform, such as ml.example.com."
  type        = string

  validation {
    condition     = length(var.host) <= 64 && can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.host))
    error_message = "host is a full host name of at most 64 characters (the limit of a certificate), such as ml.example.com."
  }
}

variable "zone" {
  description = "Public hosted zone of the host, such as example.com."
  type        = string

  validation {
    condition     = var.host == var.zone || endswith(var.host, ".${var.zone}")
    error_message = "zone is the host or a domain above it: host ml.example.com has the zone ml.example.com or example.com."
  }
}

variable "create_zone" {
  description = "Create the zone; else it must exist. The registrar of the domain must then name its servers (`name_servers`) before the certificate is issued."
  type        = bool
  default     = false
}

variable "wait_for_certificate" {
  description = "Wait until the certificate is issued. False at the first apply of a new zone, whose servers the registrar does not name yet."
  type        = bool
  default     = true
}
