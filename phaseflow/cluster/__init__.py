"""The platform on Kubernetes: what `phaseflow cluster` asks of helm and kubectl."""
