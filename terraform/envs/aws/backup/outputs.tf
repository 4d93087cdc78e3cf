output "backup" {
  description = "Bucket and key, for the variable `backup` of an environment."
  value       = { bucket = module.backup.bucket, kms_key_arn = module.backup.kms_key_arn }
}
