mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

override_data {
  target = data.aws_ec2_instance_type_offerings.this
  values = { instance_types = ["m7i.large", "m6i.large", "g6.xlarge"] }
}

variables {
  name        = "ml-test"
  subnet_ids  = ["subnet-0a", "subnet-0b"]
  admins      = ["arn:aws:iam::123456789012:role/admin"]
  kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  node_groups = {
    general = { instance_types = ["m7i.large"], min = 2, max = 4 }
    spot    = { instance_types = ["m7i.large", "m6i.large"], max = 4, spot = true, taints = { "phaseflow.io/spot" = "true" } }
    gpu     = { instance_types = ["g6.xlarge"], max = 1, gpu = true }
  }
}

run "private_by_default" {
  command = plan

  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "the Kubernetes API should be private"
  }

  assert {
    condition     = jsondecode(aws_eks_addon.before["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "network policies are not enforced"
  }

  assert {
    condition     = !contains(keys(aws_eks_addon.after), "external-dns")
    error_message = "external-dns is installed without a zone"
  }

  assert {
    condition     = aws_eks_node_group.this["spot"].capacity_type == "SPOT" && aws_eks_node_group.this["gpu"].ami_type == "AL2023_x86_64_NVIDIA"
    error_message = "a group has another kind"
  }

  assert {
    condition     = [for taint in aws_eks_node_group.this["gpu"].taint : taint.key] == ["nvidia.com/gpu"]
    error_message = "pods without a GPU would run on nodes with one"
  }
}

run "external_dns_comes_with_a_zone" {
  command = plan

  variables {
    external_dns = true
    dns_zone_arn = "arn:aws:route53:::hostedzone/Z1"
  }

  assert {
    condition     = contains(keys(aws_eks_addon.after), "external-dns")
    error_message = "external-dns is missing"
  }
}

run "a_region_without_the_gpu_is_refused" {
  command = plan

  variables {
    node_groups = {
      general = { instance_types = ["m7i.large"], min = 2, max = 4 }
      gpu     = { instance_types = ["p5.48xlarge"], max = 1, gpu = true }
    }
  }

  expect_failures = [data.aws_ec2_instance_type_offerings.this]
}

run "an_api_that_is_open_to_the_world_is_refused" {
  command = plan

  variables {
    public_access_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.public_access_cidrs]
}

run "an_old_kubernetes_is_refused" {
  command = plan

  variables {
    kubernetes_version = "1.29"
  }

  expect_failures = [var.kubernetes_version]
}

run "a_session_is_no_admin" {
  command = plan

  variables {
    admins = ["arn:aws:sts::123456789012:assumed-role/admin/me"]
  }

  expect_failures = [var.admins]
}

run "node_groups_that_can_not_work_are_refused" {
  command = plan

  variables {
    node_groups = {
      spot = { instance_types = ["m7i.large"], min = 3, max = 2, spot = true, taints = { a = "b" } }
    }
  }

  expect_failures = [var.node_groups]
}
