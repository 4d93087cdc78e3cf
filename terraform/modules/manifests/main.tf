# What the release needs in the cluster: namespace, storage class, Secrets by External Secrets, and a Job that makes the databases of Kubeflow Pipelines.
# `kubectl apply` takes the file; the values of the Secrets are in the secret manager alone. The chart makes the databases in Postgres.

locals {
  roles = ["airflow", "mlflow", "backup"]

  # Each Secret of the release: where its values are, and what External Secrets renders.
  templates = merge(
    {
      airflow = {
        secret = "airflow"
        data = {
          airflow_admin_password = "{{ .admin_password }}"
          airflow_jwt            = "{{ .jwt }}{{ .jwt }}"
          airflow_fernet         = "{{ .fernet | b64enc }}"
          "passwords.json"       = "{\"admin\":\"{{ .admin_password }}\"}"
        }
      }
      personal = { secret = "personal", data = { personal_key = "{{ .personal_key }}" } }
    },
    { for role in local.roles : "postgres-${role}" => { secret = "postgres", data = { pgpass = "*:*:*:${role}:{{ .${role} }}\n" } } },
    { mysql = { secret = "mysql", data = { username = "kfp", password = "{{ .password }}" } } },
  )

  external_secrets = [
    for name, template in local.templates : {
      apiVersion = "external-secrets.io/v1"
      kind       = "ExternalSecret"
      metadata   = { name = "phaseflow-${name}", namespace = var.namespace }
      spec = {
        refreshInterval = "1h"
        secretStoreRef  = { kind = "SecretStore", name = "phaseflow" }
        target          = { name = "phaseflow-${name}", template = { engineVersion = "v2", data = template.data } }
        dataFrom        = [{ extract = { key = var.secrets[template.secret] } }]
      }
    } if contains(keys(var.secrets), template.secret)
  ]

  # For the Jobs alone.
  administrators = [
    for engine, database in var.databases : {
      apiVersion = "external-secrets.io/v1"
      kind       = "ExternalSecret"
      metadata   = { name = "phaseflow-${engine}-administrator", namespace = var.namespace }
      spec = {
        refreshInterval = "1h"
        secretStoreRef  = { kind = "SecretStore", name = "phaseflow" }
        target          = { name = "phaseflow-${engine}-administrator" }
        data = [
          for field in ["username", "password"] : {
            secretKey = field
            remoteRef = { key = database.secret, property = field }
          }
        ]
      }
    }
  ]

  # Certificates are public.
  authorities = [
    for engine, database in var.databases : {
      apiVersion = "v1"
      kind       = "Secret"
      metadata   = { name = "phaseflow-${engine}-authorities", namespace = var.namespace }
      type       = "Opaque"
      stringData = { "ca.crt" = database.authorities }
    } if database.authorities != ""
  ]

  mysql  = [for engine, database in var.databases : database if engine == "mysql"]
  script = file("${path.module}/mysql.sh")

  config_maps = [
    for database in local.mysql : {
      apiVersion = "v1"
      kind       = "ConfigMap"
      metadata   = { name = "phaseflow-mysql-databases", namespace = var.namespace }
      data       = { "databases.sh" = local.script }
    }
  ]

  # A Job can't be changed. Its name is a hash of what it runs, so that the same file applies again.
  jobs = [
    for database in local.mysql : {
      apiVersion = "batch/v1"
      kind       = "Job"
      metadata = {
        name      = "phaseflow-mysql-${substr(sha256(jsonencode([local.script, database, var.mysql_image])), 0, 8)}"
        namespace = var.namespace
        labels    = { "phaseflow.io/databases" = "mysql" }
      }
      spec = {
        backoffLimit = 10
        template = {
          spec = {
            restartPolicy                = "OnFailure"
            automountServiceAccountToken = false
            securityContext = {
              runAsNonRoot   = true
              runAsUser      = 999
              runAsGroup     = 999
              fsGroup        = 999
              seccompProfile = { type = "RuntimeDefault" }
            }
            containers = [{
              name    = "databases"
              image   = var.mysql_image
              command = ["bash", "/etc/phaseflow/script/databases.sh"]
              env     = [{ name = "HOST", value = database.host }, { name = "PORT", value = tostring(database.port) }]
              securityContext = {
                allowPrivilegeEscalation = false
                readOnlyRootFilesystem   = true
                capabilities             = { drop = ["ALL"] }
              }
              resources = { requests = { cpu = "10m", memory = "64Mi" }, limits = { memory = "128Mi" } }
              volumeMounts = [
                { name = "script", mountPath = "/etc/phaseflow/script", readOnly = true },
                { name = "administrator", mountPath = "/etc/phaseflow/administrator", readOnly = true },
                { name = "user", mountPath = "/etc/phaseflow/user", readOnly = true },
              ]
            }]
            volumes = [
              { name = "script", configMap = { name = "phaseflow-mysql-databases" } },
              { name = "administrator", secret = { secretName = "phaseflow-mysql-administrator" } },
              { name = "user", secret = { secretName = "phaseflow-mysql" } },
            ]
          }
        }
      }
    }
  ]

  namespace = {
    apiVersion = "v1"
    kind       = "Namespace"
    metadata   = { name = var.namespace, labels = { "pod-security.kubernetes.io/enforce" = "restricted" } }
  }

  storage_classes = [
    for class in var.storage_class[*] : {
      apiVersion           = "storage.k8s.io/v1"
      kind                 = "StorageClass"
      metadata             = { name = class.name, annotations = { "storageclass.kubernetes.io/is-default-class" = "true" } }
      provisioner          = class.provisioner
      parameters           = class.parameters
      volumeBindingMode    = "WaitForFirstConsumer"
      allowVolumeExpansion = true
    }
  ]

  secret_store = {
    apiVersion = "external-secrets.io/v1"
    kind       = "SecretStore"
    metadata   = { name = "phaseflow", namespace = var.namespace }
    spec       = { provider = var.secret_provider }
  }

  documents = concat(
    [yamlencode(local.namespace)],
    [for object in local.storage_classes : yamlencode(object)],
    [yamlencode(local.secret_store)],
    [for object in local.external_secrets : yamlencode(object)],
    [for object in local.administrators : yamlencode(object)],
    [for object in local.authorities : yamlencode(object)],
    [for object in local.config_maps : yamlencode(object)],
    [for object in local.jobs : yamlencode(object)],
  )
}
