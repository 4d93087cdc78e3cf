# GKE: a private cluster with Dataplane V2 (network policies), Gateway API, Workload Identity, node pools and backups of the volumes.

resource "google_service_account" "nodes" {
  project      = var.project
  account_id   = "${var.name}-nodes"
  display_name = "Nodes of ${var.name}"
}

resource "google_project_iam_member" "nodes" {
  for_each = toset(["roles/container.defaultNodeServiceAccount", "roles/artifactregistry.reader"])

  project = var.project
  role    = each.key
  member  = google_service_account.nodes.member
}

resource "google_container_cluster" "this" {
  project             = var.project
  name                = var.name
  location            = var.location
  network             = var.network
  subnetwork          = var.subnetwork
  deletion_protection = var.deletion_protection

  # The pools below are its nodes.
  remove_default_node_pool = true
  initial_node_count       = 1

  datapath_provider           = "ADVANCED_DATAPATH"
  networking_mode             = "VPC_NATIVE"
  enable_intranode_visibility = true

  enable_shielded_nodes = true
  resource_labels       = { platform = var.name }

  release_channel {
    channel = var.release_channel
  }

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = length(var.authorized_cidrs) == 0
    master_ipv4_cidr_block  = var.control_plane_cidr
  }

  master_authorized_networks_config {
    dynamic "cidr_blocks" {
      for_each = var.authorized_cidrs

      content {
        display_name = cidr_blocks.key
        cidr_block   = cidr_blocks.value
      }
    }
  }

  gateway_api_config {
    channel = "CHANNEL_STANDARD"
  }

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  database_encryption {
    state    = "ENCRYPTED"
    key_name = var.kms_key
  }

  addons_config {
    gke_backup_agent_config {
      enabled = var.backup_schedule != ""
    }
  }

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }
}

resource "google_container_node_pool" "this" {
  for_each = var.node_pools

  project  = var.project
  name     = each.key
  location = var.location
  cluster  = google_container_cluster.this.id

  autoscaling {
    total_min_node_count = each.value.min
    total_max_node_count = each.value.max
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type      = each.value.machine_type
    spot              = each.value.spot
    disk_size_gb      = each.value.disk_gib
    disk_type         = "pd-balanced"
    boot_disk_kms_key = var.kms_key
    service_account   = google_service_account.nodes.email
    oauth_scopes      = ["https://www.googleapis.com/auth/cloud-platform"]
    labels            = { "phaseflow.io/pool" = each.key }

    dynamic "guest_accelerator" {
      for_each = each.value.gpu == "" ? [] : [each.value.gpu]

      content {
        type  = guest_accelerator.value
        count = 1

        gpu_driver_installation_config {
          gpu_driver_version = "DEFAULT"
        }
      }
    }

    dynamic "taint" {
      for_each = each.value.taints

      content {
        key    = taint.key
        value  = taint.value
        effect = "NO_SCHEDULE"
      }
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  depends_on = [google_project_iam_member.nodes]
}

# The platform's objects are on volumes here (ADR 63): these are their backups. They outlive the cluster only as long as the plan.
resource "google_gke_backup_backup_plan" "this" {
  count = var.backup_schedule == "" ? 0 : 1

  project  = var.project
  name     = var.name
  location = var.region
  cluster  = google_container_cluster.this.id

  retention_policy {
    backup_retain_days = var.backup_days
  }

  backup_schedule {
    cron_schedule = var.backup_schedule
  }

  backup_config {
    include_volume_data = true
    include_secrets     = true

    selected_namespaces {
      namespaces = [var.namespace]
    }

    encryption_key {
      gcp_kms_encryption_key = var.kms_key
    }
  }
}
