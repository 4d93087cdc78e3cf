"""Serves every project's champion over HTTP, with validation, a durable prediction log, metrics and lossless swaps."""
