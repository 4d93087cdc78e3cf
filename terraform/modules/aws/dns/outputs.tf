output "zone_id" {
  description = "The hosted zone."
  value       = local.zone_id
}

output "zone_arn" {
  description = "Its ARN, for the role of external-dns."
  value       = "arn:aws:route53:::hostedzone/${local.zone_id}"
}

output "certificate_arn" {
  description = "The certificate, once it is issued."
  value       = var.wait_for_certificate ? aws_acm_certificate_validation.this[0].certificate_arn : aws_acm_certificate.this.arn
}

output "name_servers" {
  description = "Servers of a new zone, which the registrar of the domain must name."
  value       = var.create_zone ? aws_route53_zone.this[0].name_servers : []
}
