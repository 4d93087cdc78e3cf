# One file of values for the platform chart: the profile, and over it what the cloud has. No secret is in it, only names of Secrets.

locals {
  profile = yamldecode(var.profile)
  kfp     = try(local.profile.pipelines.engine, "local") == "kfp"

  global = merge(
    {
      publicUrl = var.host == "" ? "http://localhost:30080" : "https://${var.host}"
      images    = { for key, value in var.images : key => value }
    },
    var.storage_class == "" ? {} : { storageClass = var.storage_class },
    var.personal_secret == "" ? {} : { personal = { existingSecret = var.personal_secret } },
    var.postgres == null ? {} : {
      postgres = {
        host            = var.postgres.host
        port            = var.postgres.port
        existingSecrets = var.postgres.secrets
        sslMode         = var.postgres.ssl_mode
        caSecret        = var.postgres.authorities_secret
        bootstrap       = { enabled = true, existingSecret = var.postgres.administrator_secret }
      }
    },
    {
      store = merge(
        { external = var.store != null, endpoint = "", ambientCredentials = var.store != null },
        { for key in ["bucket", "region"] : key => var.store[key] if var.store != null },
      )
    },
  )

  kind = try(var.entrance.kind, "")
  # An annotation names the certificate: ACM and Certificate Manager have it, and no Secret does.
  entrance = merge(
    {
      enabled         = true
      className       = try(var.entrance.class, "")
      host            = var.host
      annotations     = try(var.entrance.annotations, {})
      tlsSecret       = ""
      tlsByAnnotation = true
    },
    try(var.entrance.gke_health_check, false) ? { gkeHealthCheck = true } : {},
  )
  closed = { enabled = false, className = "", host = "", tlsSecret = "" }

  # Each as JSON: one map has values of one type.
  overlay = {
    global = jsonencode(local.global)
    proxy = jsonencode({
      enabled        = true
      type           = "ClusterIP"
      allowPlainHTTP = false
      trustedProxies = try(var.entrance.trusted_proxies, [])
    })
    ingress = local.kind == "ingress" ? jsonencode(local.entrance) : jsonencode(local.closed)
    gateway = local.kind == "gateway" ? jsonencode(local.entrance) : jsonencode(local.closed)
    storage = jsonencode({
      enabled  = var.postgres == null || var.store == null
      postgres = { enabled = var.postgres == null }
      s3       = { enabled = var.store == null }
    })
    backup = jsonencode({ enabled = var.backup_target != "", target = var.backup_target })
    airflow = jsonencode(merge(
      { tasks = { pod = var.batch_pod } },
      { for key, value in { existingSecret = var.airflow_secret } : key => value if value != "" },
    ))
    monitoring = jsonencode({ for key, value in { airflowSecret = var.airflow_secret } : key => value if value != "" })
    "kubeflow-pipelines" = jsonencode(merge(
      { enabled = local.kfp, runs = { pod = var.batch_pod } },
      var.mysql == null ? {} : {
        mysql = { enabled = false, host = var.mysql.host, port = var.mysql.port, existingSecret = var.mysql.secret }
      },
    ))
  }

  # Values of both, the cloud's over the profile's.
  values = {
    for key in distinct(concat(keys(local.profile), keys(local.overlay))) :
    key => merge(try(local.profile[key], {}), try(jsondecode(local.overlay[key]), {}))
  }

  yaml = "# Made by Terraform (modules/values) over a profile of the chart; changes here are overwritten.\n${yamlencode(local.values)}"
}
