# An environment: the modules put together, and what they hand to the charts.

data "aws_availability_zones" "this" {
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }

  lifecycle {
    postcondition {
      condition     = length(self.names) >= var.zone_count
      error_message = "The region has ${length(self.names)} availability zones, and zone_count is ${var.zone_count}."
    }
  }
}

locals {
  mysql = yamldecode(file("${var.charts}/kubeflow-pipelines/values.yaml")).mysql.image
  spot_pod = {
    nodeSelector = { "phaseflow.io/pool" = "spot" }
    tolerations  = [{ key = "phaseflow.io/spot", operator = "Exists", effect = "NoSchedule" }]
  }
  docker = try(module.registry.mirrors["docker.io"], "docker.io")
}

module "network" {
  source = "../network"

  name                 = var.name
  cidr                 = var.cidr
  reserved_cidrs       = var.reserved_cidrs
  zones                = slice(data.aws_availability_zones.this.names, 0, var.zone_count)
  nat_gateway_per_zone = var.nat_gateway_per_zone
  interface_endpoints  = var.interface_endpoints
  kms_key_arn          = aws_kms_key.this.arn
}

module "registry" {
  source = "../registry"

  name                = var.name
  pull_through_caches = var.pull_through_caches
  kms_key_arn         = aws_kms_key.this.arn
  force_delete        = !var.protected
}

module "dns" {
  source = "../dns"
  count  = var.dns == null ? 0 : 1

  host                 = var.dns.host
  zone                 = var.dns.zone
  create_zone          = var.dns.create_zone
  wait_for_certificate = var.dns.wait_for_certificate
}

module "cluster" {
  source = "../cluster"

  name                = var.name
  kubernetes_version  = var.kubernetes_version
  subnet_ids          = module.network.private_subnet_ids
  public_access_cidrs = var.public_access_cidrs
  admins              = var.admins
  node_groups         = var.node_groups
  node_policies       = length(var.pull_through_caches) == 0 ? {} : { registry = module.registry.cache_policy }
  addon_versions      = var.addon_versions
  external_dns        = var.dns != null
  dns_zone_arn        = one(module.dns[*].zone_arn)
  kms_key_arn         = aws_kms_key.this.arn
}

module "database" {
  source = "../database"

  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.database_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  engines                  = var.engines
  backup_days              = var.backup_days
  deletion_protection      = var.protected
  final_snapshot           = var.protected
  kms_key_arn              = aws_kms_key.this.arn
}

module "store" {
  source = "../store"

  name          = var.name
  kms_key_arn   = aws_kms_key.this.arn
  force_destroy = !var.protected
}

module "secrets" {
  source = "../secrets"

  name = var.name
  secrets = merge(
    {
      postgres = ["airflow", "mlflow", "backup"]
      airflow  = ["admin_password", "jwt", "fernet"]
      personal = ["personal_key"]
    },
    contains(keys(var.engines), "mysql") ? { mysql = ["password"] } : {},
  )
  generation    = var.generation
  recovery_days = var.protected ? 30 : 0
  kms_key_arn   = aws_kms_key.this.arn
}

module "identity" {
  source = "../identity"

  name         = var.name
  cluster_name = module.cluster.name
  vpc_id       = module.network.vpc_id
  access       = yamldecode(file("${var.charts}/storage/access.yaml"))
  objects      = { bucket_arn = module.store.arn, kms_key_arn = aws_kms_key.this.arn }
  backups = var.backup == null ? null : {
    bucket_arn  = "arn:aws:s3:::${var.backup.bucket}"
    kms_key_arn = var.backup.kms_key_arn
  }
  secret_arns     = concat(values(module.secrets.arns), values(module.database.master_secret_arns))
  secrets_key_arn = aws_kms_key.this.arn
  load_balancer   = var.dns != null
}

module "budget" {
  source = "../budget"
  count  = var.budget == null ? 0 : 1

  name              = var.name
  monthly_limit_usd = var.budget.monthly_limit_usd
  emails            = var.budget.emails
  tag               = var.name
}

module "manifests" {
  source = "../../manifests"

  storage_class = {
    name        = "gp3"
    provisioner = "ebs.csi.aws.com"
    parameters  = { type = "gp3", encrypted = "true", kmsKeyId = aws_kms_key.this.arn }
  }
  secret_provider = { aws = { service = "SecretsManager", region = data.aws_region.this.name } }
  secrets         = module.secrets.names
  databases = {
    for engine, endpoint in module.database.endpoints : engine => merge(endpoint, {
      secret      = module.database.master_secret_arns[engine]
      authorities = engine == "postgres" ? var.database_authorities : ""
    })
  }
  mysql_image = "${local.docker}/library/${local.mysql.repository}:${local.mysql.tag}@${local.mysql.digest}"
}

module "values" {
  source = "../../values"

  profile = file("${var.charts}/platform/values-${var.profile}.yaml")
  host    = try(var.dns.host, "")
  images = {
    registry   = module.registry.host
    repository = var.name
    tag        = var.image_tag
    mirrors    = module.registry.mirrors
  }
  store         = { bucket = module.store.bucket, region = data.aws_region.this.name }
  backup_target = var.backup == null ? "" : "s3://${var.backup.bucket}/${var.name}"
  postgres      = merge(module.manifests.postgres, { ssl_mode = var.database_authorities == "" ? "require" : "verify-full" })
  mysql = (
    contains(keys(var.engines), "mysql") ?
    merge(module.database.endpoints.mysql, { secret = module.manifests.secret_names.mysql }) : null
  )
  airflow_secret  = module.manifests.secret_names.airflow
  personal_secret = module.manifests.secret_names.personal
  storage_class   = "gp3"
  batch_pod       = { for key, value in local.spot_pod : key => value if contains(keys(var.node_groups), "spot") }
  entrance = var.dns == null ? null : {
    kind  = "ingress"
    class = "alb"
    annotations = merge(
      {
        "alb.ingress.kubernetes.io/scheme"           = "internet-facing"
        "alb.ingress.kubernetes.io/target-type"      = "ip"
        "alb.ingress.kubernetes.io/listen-ports"     = jsonencode([{ HTTP = 80 }, { HTTPS = 443 }])
        "alb.ingress.kubernetes.io/ssl-redirect"     = "443"
        "alb.ingress.kubernetes.io/ssl-policy"       = "ELBSecurityPolicy-TLS13-1-2-2021-06"
        "alb.ingress.kubernetes.io/certificate-arn"  = module.dns[0].certificate_arn
        "alb.ingress.kubernetes.io/healthcheck-path" = "/proxy/healthz"
        "external-dns.alpha.kubernetes.io/hostname"  = var.dns.host
      },
      var.dns.web_acl_arn == "" ? {} : { "alb.ingress.kubernetes.io/wafv2-acl-arn" = var.dns.web_acl_arn },
    )
    trusted_proxies = [var.cidr]
  }
}
