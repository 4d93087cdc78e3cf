"""The platform on a real cluster: `make test-cluster`."""
