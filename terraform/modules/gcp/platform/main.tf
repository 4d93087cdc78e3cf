# An environment of Google Cloud: the modules put together, and what they hand to the charts.

data "google_project" "this" {
  project_id = var.project
}

locals {
  client = yamldecode(file("${var.charts}/kubeflow-pipelines/values.yaml")).mysql.image
  docker = try(module.registry.mirrors["docker.io"], "docker.io")
  mysql  = contains(keys(var.engines), "mysql")
  names  = concat(["postgres", "postgres-admin", "airflow", "personal"], local.mysql ? ["mysql", "mysql-admin"] : [])

  # Google's services that encrypt with the key.
  agents = {
    compute   = "compute-system"
    container = "container-engine-robot"
    sql       = "gcp-sa-cloud-sql"
    storage   = "gs-project-accounts"
    registry  = "gcp-sa-artifactregistry"
    backup    = "gcp-sa-gkebackup"
  }
  spot_pod = { nodeSelector = { "phaseflow.io/pool" = "spot" }, tolerations = [{ key = "phaseflow.io/spot", operator = "Exists", effect = "NoSchedule" }] }
}

resource "google_project_service" "this" {
  for_each = toset(["artifactregistry", "certificatemanager", "cloudkms", "compute", "container", "dns", "gkebackup", "secretmanager", "servicenetworking", "sqladmin"])

  project            = var.project
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

resource "google_kms_key_ring" "this" {
  project  = var.project
  name     = var.name
  location = var.region

  depends_on = [google_project_service.this]
}

resource "google_kms_crypto_key" "this" {
  name            = "platform"
  key_ring        = google_kms_key_ring.this.id
  rotation_period = "7776000s"
}

resource "google_kms_crypto_key_iam_member" "agent" {
  for_each = local.agents

  crypto_key_id = google_kms_crypto_key.this.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:service-${data.google_project.this.number}@${each.value}.iam.gserviceaccount.com"
}

module "network" {
  source = "../network"

  name           = var.name
  project        = var.project
  region         = var.region
  reserved_cidrs = var.reserved_cidrs

  depends_on = [google_project_service.this]
}

module "cluster" {
  source = "../cluster"

  name                = var.name
  project             = var.project
  region              = var.region
  location            = var.location
  network             = module.network.network
  subnetwork          = module.network.subnetwork
  authorized_cidrs    = var.authorized_cidrs
  node_pools          = var.node_pools
  kms_key             = google_kms_crypto_key.this.id
  deletion_protection = var.protected

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

module "database" {
  source = "../database"

  name                = var.name
  project             = var.project
  region              = var.region
  network             = module.network.private_services
  engines             = var.engines
  admin_passwords     = { for engine in keys(var.engines) : engine => var.passwords["${engine}-admin"].password }
  password_generation = var.generation
  kms_key             = google_kms_crypto_key.this.id
  deletion_protection = var.protected

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

module "store" {
  source = "../store"

  name          = var.name
  project       = var.project
  region        = var.region
  readers       = [module.identity.step_principal]
  kms_key       = google_kms_crypto_key.this.id
  force_destroy = !var.protected

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

module "registry" {
  source = "../registry"

  name    = var.name
  project = var.project
  region  = var.region
  kms_key = google_kms_crypto_key.this.id

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

module "secrets" {
  source = "../secrets"

  name       = var.name
  project    = var.project
  names      = toset(local.names)
  secrets    = var.passwords
  generation = { for name in local.names : name => var.generation }

  depends_on = [google_project_service.this]
}

module "identity" {
  source = "../identity"

  project       = var.project
  name          = var.name
  workload_pool = module.cluster.workload_pool
  secrets       = module.secrets.names
}

module "dns" {
  source = "../dns"
  count  = var.dns == null ? 0 : 1

  name      = var.name
  project   = var.project
  host      = var.dns.host
  zone      = var.dns.zone
  zone_name = var.dns.zone_name

  depends_on = [google_project_service.this]
}

module "manifests" {
  source = "../../manifests"

  secret_provider = { gcpsm = { projectID = var.project } }
  secrets         = { for name, secret in module.secrets.names : name => secret if !endswith(name, "-admin") }
  databases = {
    for engine, endpoint in module.database.endpoints : engine => merge(endpoint, {
      secret      = module.secrets.names["${engine}-admin"]
      authorities = engine == "postgres" ? module.database.authorities.postgres : ""
    })
  }
  mysql_image = "${local.docker}/library/${local.client.repository}:${local.client.tag}@${local.client.digest}"
}

module "values" {
  source = "../../values"

  profile = file("${var.charts}/platform/values-${var.profile}.yaml")
  host    = try(var.dns.host, "")
  images = {
    registry   = module.registry.host
    repository = module.registry.repository
    tag        = var.image_tag
    mirrors    = module.registry.mirrors
  }
  # The certificate names the instance, not its address.
  postgres = merge(module.manifests.postgres, { ssl_mode = "verify-ca" })
  mysql = (
    local.mysql ?
    merge(module.database.endpoints.mysql, { secret = module.manifests.secret_names.mysql }) : null
  )
  airflow_secret  = module.manifests.secret_names.airflow
  personal_secret = module.manifests.secret_names.personal
  storage_class   = "premium-rwo"
  batch_pod       = { for key, value in local.spot_pod : key => value if contains(keys(var.node_pools), "spot") }
  entrance = var.dns == null ? null : {
    kind             = "gateway"
    class            = "gke-l7-global-external-managed"
    annotations      = { "networking.gke.io/certmap" = module.dns[0].certificate_map }
    trusted_proxies  = ["35.191.0.0/16", "130.211.0.0/22"]
    gke_health_check = true
  }
}
