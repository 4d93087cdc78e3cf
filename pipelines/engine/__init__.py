"""Kubeflow Pipelines on one machine: the v2beta1 REST API of KFP's API server, implemented with `kfp.local`."""
