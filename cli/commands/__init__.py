"""The commands of `phaseflow`. Each is written once, for this machine and for Kubernetes."""
