# The address, its record, and a certificate of Certificate Manager that renews itself. The Gateway names both by annotations.

resource "google_dns_managed_zone" "this" {
  count = var.zone_name == "" ? 1 : 0

  project     = var.project
  name        = var.name
  dns_name    = "${var.zone}."
  description = "phaseflow"

  dnssec_config {
    state = "on"
  }
}

locals {
  zone = var.zone_name == "" ? google_dns_managed_zone.this[0].name : var.zone_name
}

resource "google_compute_global_address" "this" {
  project = var.project
  name    = var.name
}

resource "google_dns_record_set" "host" {
  project      = var.project
  managed_zone = local.zone
  name         = "${var.host}."
  type         = "A"
  ttl          = 300
  rrdatas      = [google_compute_global_address.this.address]
}

resource "google_certificate_manager_dns_authorization" "this" {
  project = var.project
  name    = var.name
  domain  = var.host
}

resource "google_dns_record_set" "authorization" {
  project      = var.project
  managed_zone = local.zone
  name         = google_certificate_manager_dns_authorization.this.dns_resource_record[0].name
  type         = google_certificate_manager_dns_authorization.this.dns_resource_record[0].type
  ttl          = 300
  rrdatas      = [google_certificate_manager_dns_authorization.this.dns_resource_record[0].data]
}

resource "google_certificate_manager_certificate" "this" {
  project = var.project
  name    = var.name

  managed {
    domains            = [var.host]
    dns_authorizations = [google_certificate_manager_dns_authorization.this.id]
  }
}

resource "google_certificate_manager_certificate_map" "this" {
  project = var.project
  name    = var.name
}

resource "google_certificate_manager_certificate_map_entry" "this" {
  project      = var.project
  name         = var.name
  map          = google_certificate_manager_certificate_map.this.name
  certificates = [google_certificate_manager_certificate.this.id]
  hostname     = var.host
}
