output "role_arns" {
  description = "Role of each ServiceAccount of the release."
  value       = { for account, role in aws_iam_role.part : account => role.arn }
}

output "controllers" {
  description = "Role of each controller that is installed beside the release, by its name."
  value       = { for name, role in aws_iam_role.controller : name => role.arn }
}
