output "values" {
  description = "The one file of values for the chart, without a secret."
  value       = module.values.yaml
}

output "manifests" {
  description = "What the release needs in the cluster before it."
  value       = module.manifests.yaml
}

output "cluster_name" {
  description = "Name of the context that `update_kubeconfig` makes."
  value       = "gke_${var.project}_${var.location}_${module.cluster.name}"
}

output "update_kubeconfig" {
  description = "The command that adds the cluster to your kubeconfig."
  value       = module.cluster.update_kubeconfig
}

output "registry" {
  description = "`REGISTRY` for `make images`."
  value       = "${module.registry.host}/${module.registry.repository}"
}

output "name_servers" {
  description = "Servers of a new zone, which the registrar of the domain must name."
  value       = try(module.dns[0].name_servers, [])
}

output "remains" {
  description = "What destroy leaves on purpose."
  value       = ["key ring ${var.name}, which Google Cloud never deletes", "enabled APIs of the project"]
}
