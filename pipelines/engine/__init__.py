"""Kubeflow Pipelines on one machine: the v2beta1 REST calls of KFP's API server over `kfp.local`."""
