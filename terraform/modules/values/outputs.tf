output "yaml" {
  description = "The values, for `helm install --values`."
  value       = local.yaml

  precondition {
    condition     = !can(regex("<[a-z-]+>", local.yaml))
    error_message = "The profile has a placeholder that no variable fills: ${join(", ", distinct(regexall("<[a-z-]+>", local.yaml)))}. Set host and entrance, store, postgres and backup_target."
  }

  precondition {
    condition     = var.mysql == null || local.kfp
    error_message = "mysql is set, but the profile runs no Kubeflow Pipelines (pipelines.engine: kfp), which alone uses it."
  }
}
