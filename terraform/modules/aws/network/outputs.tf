output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Its network."
  value       = aws_vpc.this.cidr_block
}

output "private_subnet_ids" {
  description = "Subnets of nodes and pods, in the order of the zones."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "public_subnet_ids" {
  description = "Subnets of load balancers and NAT gateways, in the order of the zones."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
}

output "database_subnet_ids" {
  description = "Subnets of databases, in the order of the zones."
  value       = [for zone in var.zones : aws_subnet.database[zone].id]
}

output "nat_addresses" {
  description = "Public addresses from which the platform calls the internet."
  value       = [for address in aws_eip.nat : address.public_ip]
}
