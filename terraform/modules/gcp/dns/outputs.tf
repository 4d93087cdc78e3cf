output "certificate_map" {
  description = "Certificate map, for the annotation `networking.gke.io/certmap`."
  value       = google_certificate_manager_certificate_map.this.name
}

output "name_servers" {
  description = "Servers of a new zone, which the registrar of the domain must name."
  value       = var.zone_name == "" ? google_dns_managed_zone.this[0].name_servers : []
}
