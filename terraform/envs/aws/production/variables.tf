variable "region" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the environment."
  type        = string
  default     = "phaseflow"
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
  description = "Host and zone of the public address."
  type        = any
}

variable "backup" {
  description = "Outputs of envs/aws/backup."
  type        = any
}

variable "budget" {
  description = "Monthly limit in US dollars, and who gets a mail."
  type        = any
}

variable "reserved_cidrs" {
  description = "Networks that the VPC must not overlap: those of peered VPCs, VPNs and offices."
  type        = list(string)
  default     = []
}

variable "gpu_instance_types" {
  description = "Instance types of the nodes with a GPU, which are started when a pod asks for one; empty for none."
  type        = list(string)
  default     = ["g6.xlarge", "g5.xlarge"]
}

variable "pull_through_caches" {
  description = "Upstream registries whose images ECR copies, as the module registry has them."
  type        = any
  default = {
    "quay.io" = { upstream = "quay.io", prefix = "quay" }
  }
}

variable "protected" {
  description = "Refuse to delete databases, buckets and repositories with content. Before destroy: apply with false."
  type        = bool
  default     = true
}
