variable "name" {
  description = "Folder of the secrets: NAME/postgres, NAME/airflow, …"
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name))
    error_message = "name has 3 to 24 lower-case letters, digits and hyphens, and starts with a letter: bucket and role names are made of it."
  }
}

variable "secrets" {
  description = "Passwords that each secret has, by their keys."
  type        = map(set(string))
  default = {
    postgres = ["airflow", "mlflow", "backup"]
    airflow  = ["admin_password", "jwt", "fernet"]
    personal = ["personal_key"]
  }

  validation {
    condition     = alltrue([for name, keys in var.secrets : length(keys) > 0 && can(regex("^[a-z][a-z0-9-]*$", name))])
    error_message = "A name in secrets has lower-case letters, digits and hyphens, and each secret has at least one key."
  }
}

variable "generation" {
  description = "Raise a secret's number to generate its passwords anew. Airflow's Fernet key and the personal key must not change while data depends on them."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for number in values(var.generation) : number >= 1 && floor(number) == number])
    error_message = "A number of generation is 1 or a larger whole number."
  }
}

variable "recovery_days" {
  description = "Days for which a deleted secret can be restored; 0 deletes at once, so that the same name can be made again."
  type        = number
  default     = 30

  validation {
    condition     = var.recovery_days == 0 || (var.recovery_days >= 7 && var.recovery_days <= 30)
    error_message = "recovery_days is 0, or 7 to 30."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the secrets."
  type        = string
}
