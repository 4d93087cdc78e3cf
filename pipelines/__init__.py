"""Kubeflow pipelines of the projects, their steps, and the ETL that precedes them."""
