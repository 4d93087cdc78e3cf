output "network" {
  description = "The network."
  value       = google_compute_network.this.id
}

output "subnetwork" {
  description = "The subnet of the nodes."
  value       = google_compute_subnetwork.this.id
}

output "private_services" {
  description = "The network, once Cloud SQL can have addresses in it."
  value       = google_service_networking_connection.this.network
}
