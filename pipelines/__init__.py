"""A project becomes a Kubeflow pipeline; the steps that run in it, and the ETL before it."""
