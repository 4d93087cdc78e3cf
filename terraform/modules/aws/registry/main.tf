# One repository per image, and copies of third-party images (pull-through caches) with a template for the repositories that ECR makes.

data "aws_caller_identity" "this" {}
data "aws_region" "this" {}

locals {
  host = "${data.aws_caller_identity.this.account_id}.dkr.ecr.${data.aws_region.this.name}.amazonaws.com"

  # Layers without a tag are left by pushes that were repeated.
  lifecycle_policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Untagged after a day"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 1 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "The newest ${var.keep_images}"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = var.keep_images }
        action       = { type = "expire" }
      },
    ]
  })
}

resource "aws_ecr_repository" "this" {
  for_each = var.images

  name                 = "${var.name}/${each.key}"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.force_delete

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = var.kms_key_arn
  }

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each = aws_ecr_repository.this

  repository = each.value.name
  policy     = local.lifecycle_policy
}

resource "aws_ecr_pull_through_cache_rule" "this" {
  for_each = var.pull_through_caches

  ecr_repository_prefix = "${var.name}-${each.value.prefix}"
  upstream_registry_url = each.value.upstream
  credential_arn        = each.value.credential_arn
}

resource "aws_ecr_repository_creation_template" "this" {
  for_each = var.pull_through_caches

  prefix               = aws_ecr_pull_through_cache_rule.this[each.key].ecr_repository_prefix
  description          = "Copies of ${each.key}"
  applied_for          = ["PULL_THROUGH_CACHE"]
  image_tag_mutability = "IMMUTABLE"

  # A key of one's own would need a role for ECR, and the copies are public images.
  encryption_configuration {
    encryption_type = "AES256"
  }

  lifecycle_policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Untagged after a week"
      selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
      action       = { type = "expire" }
    }]
  })
}

# What a node needs besides AmazonEC2ContainerRegistryPullOnly: the first pull of an image makes its repository.
data "aws_iam_policy_document" "cache" {
  statement {
    actions = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]
    resources = [
      for rule in aws_ecr_pull_through_cache_rule.this :
      "arn:aws:ecr:${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}:repository/${rule.ecr_repository_prefix}/*"
    ]
  }
}
