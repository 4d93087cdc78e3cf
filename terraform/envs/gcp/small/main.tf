# A platform to try: one zone, one Postgres, pipelines in one pod. Nothing is protected.

module "platform" {
  source = "../../../modules/gcp/platform"

  name             = var.name
  project          = var.project
  region           = var.region
  location         = "${var.region}-a"
  charts           = "${path.module}/../../../../helm"
  profile          = "small"
  passwords        = var.passwords
  authorized_cidrs = var.authorized_cidrs
  image_tag        = var.image_tag
  dns              = var.dns
  protected        = false

  node_pools = {
    general = { machine_type = "e2-standard-2", min = 2, max = 4 }
    spot    = { machine_type = "e2-standard-2", max = 4, spot = true, taints = { "phaseflow.io/spot" = "true" } }
  }

  engines = {
    postgres = { version = "POSTGRES_17", tier = "db-custom-1-3840", regional = false }
  }
}
