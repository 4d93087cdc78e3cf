"""Tests of the platform on a real cluster: `make test-cluster`."""
