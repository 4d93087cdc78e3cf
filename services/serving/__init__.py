"""Every project's champion over HTTP: validated requests, durable prediction log, metrics, swaps without a dropped request."""
