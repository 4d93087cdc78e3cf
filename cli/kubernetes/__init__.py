"""The platform on Kubernetes: the helm and kubectl calls of `phaseflow --context NAME`."""
