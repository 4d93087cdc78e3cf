output "host" {
  description = "Host of the registry."
  value       = "${var.region}-docker.pkg.dev"
}

output "repository" {
  description = "Folder of phaseflow's own images on the host."
  value       = "${var.project}/${google_artifact_registry_repository.this.repository_id}"
}

output "mirrors" {
  description = "Copies by upstream registry, for the chart's value `global.images.mirrors`."
  value = {
    for name, repository in google_artifact_registry_repository.mirror :
    name => "${var.region}-docker.pkg.dev/${var.project}/${repository.repository_id}"
  }
}
