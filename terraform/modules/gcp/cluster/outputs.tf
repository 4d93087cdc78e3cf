output "name" {
  description = "Name of the cluster."
  value       = google_container_cluster.this.name

  # What is installed in the cluster needs its nodes.
  depends_on = [google_container_node_pool.this]
}

output "workload_pool" {
  description = "Pool of the identities of ServiceAccounts."
  value       = "${var.project}.svc.id.goog"
}

output "update_kubeconfig" {
  description = "The command that adds the cluster to your kubeconfig."
  value       = "gcloud container clusters get-credentials ${var.name} --project ${var.project} --location ${var.location}"
}
