variable "namespace" {
  description = "Namespace of the release."
  type        = string
  default     = "phaseflow"
}

variable "storage_class" {
  description = "Storage class that the manifests make the default, with its provisioner and parameters; null where the cluster has one."
  type = object({
    name        = string
    provisioner = string
    parameters  = map(string)
  })
  default = null
}

variable "secret_provider" {
  description = "Provider of the SecretStore, as External Secrets has it: `{ aws = { service = \"SecretsManager\", region = \"eu-central-1\" } }`."
  type        = any
}

variable "secrets" {
  description = "Names in the secret manager by the platform's: postgres (airflow, mlflow, backup), airflow (admin_password, jwt, fernet), personal (personal_key), and mysql (password)."
  type        = map(string)

  validation {
    condition     = length(setsubtract(["airflow", "personal"], keys(var.secrets))) == 0
    error_message = "secrets lacks airflow or personal."
  }
}

variable "databases" {
  description = "Databases outside the cluster by engine: host, port, the secret with the administrator's username and password, and certificates of the authorities that sign the server's."
  type = map(object({
    host        = string
    port        = number
    secret      = string
    authorities = optional(string, "")
  }))
  default = {}

  validation {
    condition     = alltrue([for engine in keys(var.databases) : contains(["postgres", "mysql"], engine) && contains(keys(var.secrets), engine)])
    error_message = "databases has the keys postgres and mysql, and secrets the same one with the passwords of the users."
  }

  validation {
    condition     = alltrue([for database in values(var.databases) : database.authorities == "" || startswith(trimspace(database.authorities), "-----BEGIN CERTIFICATE-----")])
    error_message = "authorities are certificates in PEM format, the content of a file such as eu-central-1-bundle.pem."
  }
}

variable "mysql_image" {
  description = "Image with the client mysql: the chart's, as `name:tag@digest`."
  type        = string
  default     = ""

  validation {
    condition     = var.mysql_image != "" || !contains(keys(var.databases), "mysql")
    error_message = "databases has mysql, so mysql_image names the image of its client."
  }
}
