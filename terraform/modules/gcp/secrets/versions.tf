terraform {
  # Write-only arguments and ephemeral resources need 1.11.
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "registry.terraform.io/hashicorp/google"
      version = ">= 6.50, < 7.0"
    }
  }
}
