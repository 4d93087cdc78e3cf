# One role per part of the platform, which opens that part's folders of the bucket alone. EKS Pod Identity gives it to the part's ServiceAccount.

locals {
  # ServiceAccounts of the charts, and the parts of the access table that each is (helm/platform/README.md, "Pods and their accounts").
  accounts = {
    "${var.release}-airflow"             = ["airflow"]
    "${var.release}-airflow-task"        = ["steps"]
    "${var.release}-airflow-maintenance" = ["maintenance"]
    "${var.release}-pipelines"           = ["steps"]
    "pipeline-runner"                    = ["steps", "kfp"]
    "ml-pipeline"                        = ["kfp"]
    "ml-pipeline-ui"                     = ["kfp"]
    "${var.release}-serving"             = ["serving"]
    "${var.release}-mlflow"              = ["mlflow"]
    "${var.release}-monitor"             = ["monitor"]
    "${var.release}-evidently"           = ["portal"]
    "${var.release}-portal"              = ["portal"]
    "${var.release}-backup"              = ["backup"]
    "${var.release}-restore"             = ["restore"]
    "${var.release}-prune"               = ["prune"]
  }

  actions = {
    read   = ["s3:GetObject"]
    write  = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    delete = ["s3:DeleteObject"]
  }

  # A key without s3:ListBucket for the whole bucket gets 403 instead of 404 for an object that is not there. These parts look for one.
  list_all = ["steps", "airflow", "mlflow"]

  buckets = { for kind, bucket in { objects = var.objects, backups = var.backups } : kind => bucket if bucket != null }

  # One row per account, part, bucket and action.
  rows = flatten([
    for account, parts in local.accounts : [
      for part in parts : [
        for kind, bucket in local.buckets : [
          for action, patterns in try(var.access[part][kind], {}) : {
            account  = account
            part     = part
            kind     = kind
            action   = action
            bucket   = bucket
            patterns = [for pattern in patterns : replace(pattern, "{pipelines}", trim(var.pipelines_prefix, "/"))]
            whole    = contains(patterns, "*") || contains(local.list_all, part)
          }
        ]
      ]
    ]
  ])
  rows_of = { for row in local.rows : row.account => row... }
}

data "aws_iam_policy_document" "part" {
  for_each = local.rows_of

  dynamic "statement" {
    for_each = [for row in each.value : row if row.action != "list"]

    content {
      actions   = local.actions[statement.value.action]
      resources = [for pattern in statement.value.patterns : "${statement.value.bucket.bucket_arn}/${pattern}"]
    }
  }

  dynamic "statement" {
    for_each = [for row in each.value : row if row.action == "list"]

    content {
      actions   = statement.value.whole ? ["s3:ListBucket", "s3:GetBucketLocation"] : ["s3:ListBucket"]
      resources = [statement.value.bucket.bucket_arn]

      dynamic "condition" {
        for_each = statement.value.whole ? [] : [statement.value.patterns]

        content {
          test     = "StringLike"
          variable = "s3:prefix"
          values   = condition.value
        }
      }
    }
  }

  statement {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = distinct([for row in each.value : row.bucket.kms_key_arn])
  }
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "part" {
  for_each = local.rows_of

  name               = "${var.name}-${trimprefix(each.key, "${var.release}-")}"
  description        = "ServiceAccount ${each.key}: ${join(", ", local.accounts[each.key])}"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "part" {
  for_each = local.rows_of

  name   = "objects"
  role   = aws_iam_role.part[each.key].id
  policy = data.aws_iam_policy_document.part[each.key].json
}

resource "aws_eks_pod_identity_association" "part" {
  for_each = local.rows_of

  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = each.key
  role_arn        = aws_iam_role.part[each.key].arn
}
