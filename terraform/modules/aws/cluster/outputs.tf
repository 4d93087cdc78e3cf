output "name" {
  description = "Name of the cluster."
  value       = aws_eks_cluster.this.name

  # What is installed in the cluster needs its nodes and add-ons.
  depends_on = [aws_eks_addon.after, aws_eks_access_policy_association.admin]
}

output "arn" {
  description = "Its ARN."
  value       = aws_eks_cluster.this.arn
}

output "endpoint" {
  description = "Address of the Kubernetes API."
  value       = aws_eks_cluster.this.endpoint
}

output "security_group_id" {
  description = "Security group of control plane and nodes: whom the databases let in."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "node_role_arn" {
  description = "Role of the nodes."
  value       = aws_iam_role.node.arn
}

output "update_kubeconfig" {
  description = "The command that adds the cluster to your kubeconfig."
  value       = "aws eks update-kubeconfig --region ${data.aws_region.this.name} --name ${aws_eks_cluster.this.name} --alias ${aws_eks_cluster.this.name}"
}
