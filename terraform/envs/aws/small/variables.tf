variable "region" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the environment."
  type        = string
  default     = "phaseflow-small"
}

variable "cidr" {
  description = "Network of the VPC."
  type        = string
  default     = "10.64.0.0/16"
}

variable "admins" {
  description = "IAM principals that administer the cluster: yours among them."
  type        = set(string)
}

variable "public_access_cidrs" {
  description = "Networks that reach the Kubernetes API from the internet: yours, unless you are in the VPC."
  type        = list(string)
  default     = []
}

variable "image_tag" {
  description = "Tag of phaseflow's own images (`bin/image-tag`)."
  type        = string
  default     = ""
}

variable "database_authorities" {
  description = "Certificates of RDS' authorities in the region, by which Postgres is verified; empty for encrypted connections without that. `bin/cloud` downloads them."
  type        = string
  default     = ""
}

variable "dns" {
  description = "Host and zone; null for an environment that is reached by `kubectl port-forward`."
  type        = any
  default     = null
}

variable "backup" {
  description = "Outputs of envs/aws/backup; null for none."
  type        = any
  default     = null
}

variable "budget" {
  description = "Monthly limit in US dollars, and who gets a mail."
  type        = any
  default     = null
}
