# A platform for a team: three zones, replicated databases, Kubeflow Pipelines, a public address, GPUs on demand.

module "platform" {
  source = "../../../modules/gcp/platform"

  name             = var.name
  project          = var.project
  region           = var.region
  location         = var.region
  charts           = "${path.module}/../../../../helm"
  profile          = "production"
  passwords        = var.passwords
  authorized_cidrs = var.authorized_cidrs
  image_tag        = var.image_tag
  dns              = var.dns
  protected        = var.protected

  node_pools = {
    general = { machine_type = "e2-standard-4", min = 3, max = 9 }
    spot    = { machine_type = "e2-standard-4", max = 20, spot = true, taints = { "phaseflow.io/spot" = "true" } }
    gpu     = { machine_type = "g2-standard-4", max = 4, gpu = "nvidia-l4", disk_gib = 100 }
  }

  engines = {
    postgres = { version = "POSTGRES_17", tier = "db-custom-2-7680", disk_gib = 100 }
    # Kubeflow Pipelines 2.17 connects without TLS (ADR 62).
    mysql = { version = "MYSQL_8_4", tier = "db-custom-2-7680", disk_gib = 50, force_tls = false }
  }
}
