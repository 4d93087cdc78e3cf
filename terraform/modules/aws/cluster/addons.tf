# Add-ons. The network plugin comes before the nodes, which are not ready without it; the others run on them.

locals {
  before = {
    vpc-cni                = { enableNetworkPolicy = "true" }
    kube-proxy             = {}
    eks-pod-identity-agent = {}
  }
  after = merge(
    {
      coredns            = {}
      metrics-server     = {}
      aws-ebs-csi-driver = { defaultStorageClass = { enabled = false } }
    },
    !var.external_dns ? {} : {
      external-dns = { policy = "upsert-only", txtOwnerId = var.name, sources = ["service", "ingress"] }
    },
  )
  versions = { for name in concat(keys(local.before), keys(local.after)) : name => lookup(var.addon_versions, name, null) }

  # ServiceAccounts of the add-ons that call AWS.
  roles = merge(
    {
      vpc-cni            = "aws-node"
      aws-ebs-csi-driver = "ebs-csi-controller-sa"
    },
    !var.external_dns ? {} : { external-dns = "external-dns" },
  )
  managed_policies = {
    vpc-cni            = "${local.policy}/AmazonEKS_CNI_Policy"
    aws-ebs-csi-driver = "${local.policy}/service-role/AmazonEBSCSIDriverPolicy"
  }
}

data "aws_iam_policy_document" "pod_trust" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "addon" {
  for_each = local.roles

  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.pod_trust.json
}

resource "aws_iam_role_policy_attachment" "addon" {
  for_each = local.managed_policies

  role       = aws_iam_role.addon[each.key].name
  policy_arn = each.value
}

# The volumes' key is ours, so the driver needs grants of it.
data "aws_iam_policy_document" "volumes" {
  statement {
    actions   = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey"]
    resources = [var.kms_key_arn]
  }

  statement {
    actions   = ["kms:CreateGrant"]
    resources = [var.kms_key_arn]

    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }
}

resource "aws_iam_role_policy" "volumes" {
  name   = "key"
  role   = aws_iam_role.addon["aws-ebs-csi-driver"].id
  policy = data.aws_iam_policy_document.volumes.json
}

data "aws_iam_policy_document" "dns" {
  count = var.external_dns ? 1 : 0

  statement {
    actions   = ["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"]
    resources = [var.dns_zone_arn]
  }

  # Route 53 knows no narrower resource for these.
  statement {
    actions   = ["route53:ListHostedZones", "route53:ListTagsForResources"]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "dns" {
  count = var.external_dns ? 1 : 0

  name   = "zone"
  role   = aws_iam_role.addon["external-dns"].id
  policy = data.aws_iam_policy_document.dns[0].json
}

resource "aws_eks_addon" "before" {
  for_each = local.before

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = local.versions[each.key]
  configuration_values        = length(each.value) == 0 ? null : jsonencode(each.value)
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  dynamic "pod_identity_association" {
    for_each = contains(keys(local.roles), each.key) ? [local.roles[each.key]] : []

    content {
      role_arn        = aws_iam_role.addon[each.key].arn
      service_account = pod_identity_association.value
    }
  }

  depends_on = [aws_iam_role_policy_attachment.addon]
}

resource "aws_eks_addon" "after" {
  for_each = local.after

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = local.versions[each.key]
  configuration_values        = length(each.value) == 0 ? null : jsonencode(each.value)
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  dynamic "pod_identity_association" {
    for_each = contains(keys(local.roles), each.key) ? [local.roles[each.key]] : []

    content {
      role_arn        = aws_iam_role.addon[each.key].arn
      service_account = pod_identity_association.value
    }
  }

  depends_on = [
    aws_eks_node_group.this,
    aws_iam_role_policy.volumes,
    aws_iam_role_policy.dns,
    aws_iam_role_policy_attachment.addon,
  ]
}
