# A platform to try: one NAT gateway, one Postgres, pipelines in one pod. Nothing is protected: destroy leaves nothing but backups.

module "platform" {
  source = "../../../modules/aws/platform"

  name    = var.name
  charts  = "${path.module}/../../../../helm"
  profile = "small"

  cidr                 = var.cidr
  admins               = var.admins
  public_access_cidrs  = var.public_access_cidrs
  image_tag            = var.image_tag
  dns                  = var.dns
  database_authorities = var.database_authorities
  backup               = var.backup
  budget               = var.budget
  protected            = false

  node_groups = {
    general = { instance_types = ["m7i.large"], min = 2, max = 4 }
    spot = {
      instance_types = ["m7i.large", "m6i.large", "m5.large"]
      max            = 4
      spot           = true
      taints         = { "phaseflow.io/spot" = "true" }
    }
  }

  engines = {
    postgres = { version = "17", instance_class = "db.t4g.small", multi_az = false, max_storage_gib = 100 }
  }
  backup_days = 3
}
