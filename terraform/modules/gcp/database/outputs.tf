output "endpoints" {
  description = "Host and port of each database, by engine."
  value = {
    for engine, instance in google_sql_database_instance.this :
    engine => { host = instance.private_ip_address, port = engine == "postgres" ? 5432 : 3306 }
  }
}

output "authorities" {
  description = "Certificate of the authority that signs each instance's, by engine."
  value       = { for engine, instance in google_sql_database_instance.this : engine => instance.server_ca_cert[0].cert }
}
