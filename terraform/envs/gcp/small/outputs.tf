output "values" {
  description = "The one file of values for the chart, without a secret."
  value       = module.platform.values
}

output "manifests" {
  description = "What the release needs in the cluster before it."
  value       = module.platform.manifests
}

output "cluster_name" {
  description = "Name of the context that `update_kubeconfig` makes."
  value       = module.platform.cluster_name
}

output "update_kubeconfig" {
  description = "The command that adds the cluster to your kubeconfig."
  value       = module.platform.update_kubeconfig
}

output "registry" {
  description = "`REGISTRY` for `make images`."
  value       = module.platform.registry
}

output "name_servers" {
  description = "Servers of a new zone, which the registrar of the domain must name."
  value       = module.platform.name_servers
}

output "remains" {
  description = "What destroy leaves on purpose."
  value       = module.platform.remains
}
