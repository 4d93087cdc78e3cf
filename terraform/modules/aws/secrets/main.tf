# Passwords that must outlive the cluster. They are made by AWS, and pass through Terraform in memory alone: neither plan nor state has them.

locals {
  passwords = merge([for name, keys in var.secrets : { for key in keys : "${name}/${key}" => null }]...)
}

# 32 letters and digits have 190 bits; a Fernet key is these 32 bytes in base64.
ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = local.passwords

  password_length     = 32
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "this" {
  for_each = var.secrets

  name                    = "${var.name}/${each.key}"
  description             = "phaseflow: ${join(", ", each.value)}"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.recovery_days
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each = var.secrets

  secret_id = aws_secretsmanager_secret.this[each.key].id
  secret_string_wo = jsonencode({
    for key in each.value : key => ephemeral.aws_secretsmanager_random_password.this["${each.key}/${key}"].random_password
  })
  secret_string_wo_version = lookup(var.generation, each.key, 1)
}
