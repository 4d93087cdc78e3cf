terraform {
  # Write-only arguments and ephemeral resources need 1.11.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "registry.terraform.io/hashicorp/aws"
      version = ">= 5.100, < 6.0"
    }
  }
}
