terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "registry.terraform.io/hashicorp/google"
      version = ">= 6.50, < 7.0"
    }
  }

  # The bucket comes from `terraform init -backend-config` (bin/cloud does it). Cloud Storage locks the state itself.
  backend "gcs" {
    prefix = "phaseflow/small"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = { environment = "small", managed-by = "terraform" }
}
