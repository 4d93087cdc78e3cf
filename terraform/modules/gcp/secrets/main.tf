# Passwords that must outlive the cluster, written and never read again: neither plan nor state has them.

resource "google_secret_manager_secret" "this" {
  for_each = var.names

  project   = var.project
  secret_id = "${var.name}-${each.key}"

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "this" {
  for_each = var.names

  secret                 = google_secret_manager_secret.this[each.key].id
  secret_data_wo         = jsonencode(var.secrets[each.key])
  secret_data_wo_version = lookup(var.generation, each.key, 1)
}
