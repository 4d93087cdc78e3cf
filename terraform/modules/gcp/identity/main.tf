# Workload Identity Federation: a ServiceAccount of Kubernetes is the principal itself, without an account of Google and without a key.

data "google_project" "this" {
  project_id = var.project
}

locals {
  principal = "principal://iam.googleapis.com/projects/${data.google_project.this.number}/locations/global/workloadIdentityPools/${var.workload_pool}/subject/ns"
}

# The one account of the installation that calls Google: it reads these secrets alone.
resource "google_secret_manager_secret_iam_member" "external_secrets" {
  for_each = var.secrets

  project   = var.project
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = "${local.principal}/external-secrets/sa/external-secrets"
}
