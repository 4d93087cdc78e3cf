output "bucket" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "arn" {
  description = "Its ARN."
  value       = aws_s3_bucket.this.arn
}
