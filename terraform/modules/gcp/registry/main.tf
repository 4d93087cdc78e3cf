# phaseflow's own images, and copies of third-party ones (remote repositories).

resource "google_artifact_registry_repository" "this" {
  project       = var.project
  location      = var.region
  repository_id = var.name
  description   = "phaseflow's own images"
  format        = "DOCKER"
  kms_key_name  = var.kms_key

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "newest"
    action = "KEEP"

    most_recent_versions {
      keep_count = var.keep_images
    }
  }

  cleanup_policies {
    id     = "older"
    action = "DELETE"

    condition {
      older_than = "2592000s"
    }
  }
}

resource "google_artifact_registry_repository" "mirror" {
  for_each = var.mirrors

  project       = var.project
  location      = var.region
  repository_id = "${var.name}-${replace(each.key, ".", "-")}"
  description   = "Copies of ${each.key}"
  format        = "DOCKER"
  mode          = "REMOTE_REPOSITORY"
  kms_key_name  = var.kms_key

  remote_repository_config {
    common_repository {
      uri = each.value
    }
  }
}
