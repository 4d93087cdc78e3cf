# The backups of every environment. It has a state of its own, so that destroying a platform leaves them.

module "backup" {
  source = "../../../modules/aws/backup"

  name          = var.name
  accounts      = var.accounts
  force_destroy = var.force_destroy
}
