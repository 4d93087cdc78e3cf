variable "name" {
  description = "Prefix of the roles."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name has 3 to 24 lower-case letters, digits and hyphens, and starts with a letter: bucket and role names are made of it."
  }
}

variable "cluster_name" {
  description = "The cluster."
  type        = string
}

variable "vpc_id" {
  description = "The VPC in which the load balancer controller works."
  type        = string
}

variable "namespace" {
  description = "Namespace of the release."
  type        = string
  default     = "phaseflow"
}

variable "release" {
  description = "Name of the release."
  type        = string
  default     = "phaseflow"
}

variable "access" {
  description = "What each part does with which objects: `helm/storage/access.yaml`, decoded. Bucket `objects` or `backups`, then read, list, write, delete and patterns of keys."
  type        = any

  validation {
    condition     = length(setsubtract(["serving", "steps", "maintenance", "monitor", "portal", "mlflow", "airflow", "kfp", "backup", "restore", "prune"], keys(var.access))) == 0
    error_message = "access lacks a part: it is yamldecode(file(\".../helm/storage/access.yaml\"))."
  }
}

variable "pipelines_prefix" {
  description = "Folder of Kubeflow Pipelines in the bucket."
  type        = string
  default     = "kfp"
}

variable "objects" {
  description = "ARNs of the platform's bucket and of its key; null where the objects are in the cluster's own store."
  type = object({
    bucket_arn  = string
    kms_key_arn = string
  })
  default = null
}

variable "backups" {
  description = "ARNs of the backups' bucket and of its key; null for none."
  type = object({
    bucket_arn  = string
    kms_key_arn = string
  })
  default = null
}

variable "secret_arns" {
  description = "Secrets that External Secrets reads."
  type        = list(string)

  validation {
    condition     = length(var.secret_arns) > 0
    error_message = "secret_arns is empty, so External Secrets could read nothing."
  }
}

variable "secrets_key_arn" {
  description = "Key that encrypts those secrets."
  type        = string
}

variable "load_balancer" {
  description = "Make the role of the AWS Load Balancer Controller: with a public address."
  type        = bool
  default     = true
}
