output "yaml" {
  description = "The manifests, for `kubectl apply --filename`."
  value       = join("---\n", local.documents)
}

output "secret_names" {
  description = "Secret of the release by the platform's name: `phaseflow-postgres`, `phaseflow-airflow`, …"
  value       = local.metadata
}
