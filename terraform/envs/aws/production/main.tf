# A platform for a team: three zones, replicated databases, Kubeflow Pipelines, a public address, backups, GPUs on demand.

module "platform" {
  source = "../../../modules/aws/platform"

  name    = var.name
  charts  = "${path.module}/../../../../helm"
  profile = "production"

  cidr                 = var.cidr
  reserved_cidrs       = var.reserved_cidrs
  zone_count           = 3
  nat_gateway_per_zone = true
  interface_endpoints  = ["ecr.api", "ecr.dkr", "sts", "secretsmanager", "logs", "ec2", "eks-auth"]
  admins               = var.admins
  public_access_cidrs  = var.public_access_cidrs
  pull_through_caches  = var.pull_through_caches
  image_tag            = var.image_tag
  dns                  = var.dns
  database_authorities = var.database_authorities
  backup               = var.backup
  budget               = var.budget
  protected            = var.protected

  node_groups = merge(
    {
      general = { instance_types = ["m7i.xlarge"], min = 3, max = 8 }
      spot = {
        instance_types = ["m7i.xlarge", "m6i.xlarge", "m5.xlarge", "r6i.xlarge"]
        max            = 20
        spot           = true
        taints         = { "phaseflow.io/spot" = "true" }
      }
    },
    length(var.gpu_instance_types) == 0 ? {} : {
      gpu = { instance_types = var.gpu_instance_types, max = 4, gpu = true, disk_gib = 100 }
    },
  )

  engines = {
    postgres = { version = "17", instance_class = "db.m7g.large", storage_gib = 100, max_storage_gib = 500 }
    # Kubeflow Pipelines 2.17 connects without TLS (ADR 62): inside the VPC, from the cluster's security group alone.
    mysql = { version = "8.4", instance_class = "db.t4g.medium", storage_gib = 50, force_tls = false }
  }
  backup_days = 14
}
