variable "project" {
  description = "Project of Google Cloud."
  type        = string
}

variable "region" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the environment."
  type        = string
  default     = "phaseflow"
}

variable "passwords" {
  description = "Passwords of each secret by their keys, as `bin/cloud` generates them; used for new secrets alone."
  type        = map(map(string))
  ephemeral   = true
}

variable "authorized_cidrs" {
  description = "Networks that reach the Kubernetes API from the internet by name."
  type        = map(string)
  default     = {}
}

variable "image_tag" {
  description = "Tag of phaseflow's own images (`bin/image-tag`)."
  type        = string
  default     = ""
}

variable "dns" {
  description = "Host and zone of the public address; null for an environment that is reached by `kubectl port-forward`."
  type        = any
  default     = null
}

variable "protected" {
  description = "Refuse to delete cluster, databases and bucket. Before destroy: apply with false."
  type        = bool
  default     = true
}
