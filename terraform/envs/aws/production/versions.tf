terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "registry.terraform.io/hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # The bucket and its region come from `terraform init -backend-config` (bin/cloud does it). The lock is an object beside the state.
  backend "s3" {
    key          = "phaseflow/production.tfstate"
    use_lockfile = true
    encrypt      = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { platform = var.name, environment = "production", managed-by = "terraform" }
  }
}
