variable "region" {
  description = "Region of the backups: another than the platform's survives the loss of one."
  type        = string
}

variable "name" {
  description = "Prefix of the bucket."
  type        = string
  default     = "phaseflow"
}

variable "accounts" {
  description = "Numbers of other accounts whose platforms save here and restore from here."
  type        = set(string)
  default     = []
}

variable "force_destroy" {
  description = "Let destroy remove the bucket with backups in it."
  type        = bool
  default     = false
}
