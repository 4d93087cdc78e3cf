# What the release needs in the cluster: namespace, storage class, Secrets by External Secrets, and Jobs that make the databases' users.
# `kubectl apply` takes the file; the values of the Secrets are in the secret manager alone.

locals {
  # Each Secret of the release, by what External Secrets renders.
  templates = {
    postgres = {
      pgpass = "{{ range $role := list \"airflow\" \"mlflow\" \"backup\" }}*:*:*:{{ $role }}:{{ index $ $role }}\n{{ end }}"
    }
    airflow = {
      airflow_admin_password = "{{ .admin_password }}"
      airflow_jwt            = "{{ .jwt }}{{ .jwt }}"
      airflow_fernet         = "{{ .fernet | b64enc }}"
      "passwords.json"       = "{\"admin\":\"{{ .admin_password }}\"}"
    }
    personal = { personal_key = "{{ .personal_key }}" }
    mysql    = { username = "kfp", password = "{{ .password }}" }
  }

  metadata = { for name in keys(var.secrets) : name => "phaseflow-${name}" }

  external_secrets = [
    for name, key in var.secrets : {
      apiVersion = "external-secrets.io/v1"
      kind       = "ExternalSecret"
      metadata   = { name = local.metadata[name], namespace = var.namespace }
      spec = {
        refreshInterval = "1h"
        secretStoreRef  = { kind = "SecretStore", name = "phaseflow" }
        target          = { name = local.metadata[name], template = { engineVersion = "v2", data = local.templates[name] } }
        dataFrom        = [{ extract = { key = key } }]
      }
    }
  ]

  # The administrator's and the users' passwords, for the Jobs alone.
  database_secrets = [
    for engine, database in var.databases : {
      apiVersion = "external-secrets.io/v1"
      kind       = "ExternalSecret"
      metadata   = { name = "phaseflow-${engine}-bootstrap", namespace = var.namespace }
      spec = {
        refreshInterval = "1h"
        secretStoreRef  = { kind = "SecretStore", name = "phaseflow" }
        target          = { name = "phaseflow-${engine}-bootstrap" }
        data = [
          for field in ["username", "password"] : {
            secretKey = "admin_${field}"
            remoteRef = { key = database.secret, property = field }
          }
        ]
        dataFrom = [{ extract = { key = var.secrets[engine] } }]
      }
    }
  ]

  scripts = { for engine in keys(var.databases) : engine => file("${path.module}/${engine}.sh") }

  config_maps = [
    for engine, script in local.scripts : {
      apiVersion = "v1"
      kind       = "ConfigMap"
      metadata   = { name = "phaseflow-${engine}-bootstrap", namespace = var.namespace }
      data       = { "bootstrap.sh" = script }
    }
  ]

  environment = {
    for engine, database in var.databases : engine => (
      engine == "postgres" ?
      [{ name = "PGHOST", value = database.host }, { name = "PGPORT", value = tostring(database.port) }] :
      [{ name = "HOST", value = database.host }, { name = "PORT", value = tostring(database.port) }]
    )
  }

  # A Job can't be changed. Its name is a hash of what it runs, so that the same file applies again.
  jobs = [
    for engine, database in var.databases : {
      apiVersion = "batch/v1"
      kind       = "Job"
      metadata = {
        name      = "phaseflow-${engine}-${substr(sha256(jsonencode([local.scripts[engine], database, var.images[engine]])), 0, 8)}"
        namespace = var.namespace
        labels    = { "phaseflow.io/bootstrap" = engine }
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
              name    = "bootstrap"
              image   = var.images[engine]
              command = ["bash", "/etc/phaseflow/bootstrap/bootstrap.sh"]
              env     = local.environment[engine]
              securityContext = {
                allowPrivilegeEscalation = false
                readOnlyRootFilesystem   = true
                capabilities             = { drop = ["ALL"] }
              }
              resources = { requests = { cpu = "10m", memory = "64Mi" }, limits = { memory = "128Mi" } }
              volumeMounts = [
                { name = "script", mountPath = "/etc/phaseflow/bootstrap", readOnly = true },
                { name = "secrets", mountPath = "/etc/phaseflow/secrets", readOnly = true },
                { name = "tmp", mountPath = "/tmp" },
              ]
            }]
            volumes = [
              { name = "script", configMap = { name = "phaseflow-${engine}-bootstrap" } },
              { name = "secrets", secret = { secretName = "phaseflow-${engine}-bootstrap" } },
              { name = "tmp", emptyDir = { medium = "Memory" } },
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
    [for object in local.database_secrets : yamlencode(object)],
    [for object in local.config_maps : yamlencode(object)],
    [for object in local.jobs : yamlencode(object)],
  )
}
