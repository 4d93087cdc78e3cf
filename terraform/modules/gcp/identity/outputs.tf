output "step_principal" {
  description = "The steps of projects, for buckets that they read sources from."
  value       = "${local.principal}/${var.namespace}/sa/phaseflow-airflow-task"
}
