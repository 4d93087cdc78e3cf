# RDS instances whose administrator's password RDS makes, keeps in Secrets Manager and rotates: it is in no state.

locals {
  settings = {
    postgres = {
      family = "postgres17"
      port   = 5432
      logs   = ["postgresql", "upgrade"]
      parameters = {
        "rds.force_ssl"              = "1"
        "log_connections"            = "1"
        "log_disconnections"         = "1"
        "log_min_duration_statement" = "1000"
      }
    }
    mysql = {
      family = "mysql8.4"
      port   = 3306
      logs   = ["error", "slowquery"]
      parameters = {
        "require_secure_transport" = try(var.engines.mysql.force_tls, true) ? "ON" : "OFF"
        "slow_query_log"           = "1"
      }
    }
  }
}

resource "aws_db_subnet_group" "this" {
  name        = var.name
  description = "Databases of ${var.name}"
  subnet_ids  = var.subnet_ids
}

resource "aws_security_group" "this" {
  for_each = var.engines

  name        = "${var.name}-${each.key}"
  description = "Clients of ${each.key}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_security_group_ingress_rule" "this" {
  for_each = var.engines

  security_group_id            = aws_security_group.this[each.key].id
  description                  = "The cluster"
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.settings[each.key].port
  to_port                      = local.settings[each.key].port
}

resource "aws_db_parameter_group" "this" {
  for_each = var.engines

  name        = "${var.name}-${each.key}-${replace(local.settings[each.key].family, ".", "")}"
  description = "${each.key} of ${var.name}"
  family      = local.settings[each.key].family

  dynamic "parameter" {
    for_each = local.settings[each.key].parameters

    content {
      name         = parameter.key
      value        = parameter.value
      apply_method = "pending-reboot"
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

data "aws_iam_policy_document" "monitoring_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["monitoring.rds.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "monitoring" {
  count = var.enhanced_monitoring_seconds > 0 ? 1 : 0

  name               = "${var.name}-rds-monitoring"
  assume_role_policy = data.aws_iam_policy_document.monitoring_trust.json
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  count = var.enhanced_monitoring_seconds > 0 ? 1 : 0

  role       = aws_iam_role.monitoring[0].name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_db_instance" "this" {
  for_each = var.engines

  identifier     = "${var.name}-${each.key}"
  engine         = each.key
  engine_version = each.value.version
  instance_class = each.value.instance_class
  port           = local.settings[each.key].port

  username                      = "administrator"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.kms_key_arn

  storage_type          = "gp3"
  allocated_storage     = each.value.storage_gib
  max_allocated_storage = each.value.max_storage_gib
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  multi_az               = each.value.multi_az
  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this[each.key].id]
  parameter_group_name   = aws_db_parameter_group.this[each.key].name
  publicly_accessible    = false
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  backup_retention_period    = var.backup_days
  backup_window              = "02:00-03:00"
  maintenance_window         = "sun:04:00-sun:05:00"
  auto_minor_version_upgrade = true
  copy_tags_to_snapshot      = true
  apply_immediately          = var.apply_immediately

  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = !var.final_snapshot
  final_snapshot_identifier = var.final_snapshot ? "${var.name}-${each.key}-final" : null
  delete_automated_backups  = !var.final_snapshot

  performance_insights_enabled    = true
  performance_insights_kms_key_id = var.kms_key_arn
  enabled_cloudwatch_logs_exports = local.settings[each.key].logs
  monitoring_interval             = var.enhanced_monitoring_seconds
  monitoring_role_arn             = one(aws_iam_role.monitoring[*].arn)

  depends_on = [aws_iam_role_policy_attachment.monitoring]
}
