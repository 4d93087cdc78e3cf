output "host" {
  description = "Host of the registry, for `docker login`."
  value       = local.host
}

output "registry" {
  description = "What `REGISTRY` is set to for `make images`."
  value       = "${local.host}/${var.name}"
}

output "mirrors" {
  description = "Copies by upstream registry, for the chart's value `global.images.mirrors`."
  value       = { for name, rule in aws_ecr_pull_through_cache_rule.this : name => "${local.host}/${rule.ecr_repository_prefix}" }
}

output "cache_policy" {
  description = "Policy of the nodes' role for the copies, in JSON; null for none."
  value       = length(var.pull_through_caches) > 0 ? data.aws_iam_policy_document.cache.json : null
}

output "repository_urls" {
  description = "Repository of each image."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}
