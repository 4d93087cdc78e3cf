output "values" {
  description = "The one file of values for the chart, without a secret: `terraform output -raw values >values.yaml`."
  value       = module.values.yaml
}

output "manifests" {
  description = "What the release needs in the cluster before it: `terraform output -raw manifests | kubectl apply --filename -`."
  value       = module.manifests.yaml
}

output "cluster_name" {
  description = "Name of the cluster, and of the context that `update_kubeconfig` makes."
  value       = module.cluster.name
}

output "update_kubeconfig" {
  description = "The command that adds the cluster to your kubeconfig."
  value       = module.cluster.update_kubeconfig
}

output "registry" {
  description = "`REGISTRY` for `make images`."
  value       = module.registry.registry
}

output "region" {
  description = "Region of the environment."
  value       = data.aws_region.this.name
}

output "vpc_id" {
  description = "The VPC."
  value       = module.network.vpc_id
}

output "nat_addresses" {
  description = "Public addresses from which the platform calls the internet."
  value       = module.network.nat_addresses
}

output "name_servers" {
  description = "Servers of a new zone, which the registrar of the domain must name."
  value       = try(module.dns[0].name_servers, [])
}

output "load_balancer" {
  description = "Whether a load balancer controller leads to the platform; else it is reached by port-forward."
  value       = var.dns != null
}

output "remains" {
  description = "What destroy leaves on purpose."
  value = concat(
    module.database.final_snapshots,
    var.backup == null ? [] : ["s3://${var.backup.bucket}"],
    var.protected ? ["secrets ${var.name}/*, which can be restored for 30 days"] : [],
    ["key alias/${var.name}, which AWS deletes after 30 days"],
  )
}

output "service_accounts" {
  description = "ServiceAccounts of the release that have a role."
  value       = sort(keys(module.identity.role_arns))
}
